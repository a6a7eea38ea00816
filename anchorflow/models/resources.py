"""The SLURM resources of a model's jobs, set in its YAML or for one sweep (launcher.per_model)."""

from __future__ import annotations

from typing import Any

from anchorflow.settings import configurable, setting, values


@configurable
class Resources:
    """SLURM resources of one model's jobs; null takes the launcher's value."""

    partition: str | None = setting(default=None, kind="run")
    """SLURM's partition."""
    qos: str | None = setting(default=None, kind="run")
    """SLURM's quality of service."""
    constraint: str | None = setting(default=None, kind="run")
    """Features that the nodes must have."""
    gpus_per_node: int | None = setting(default=None, kind="run")
    """GPUs of one allocation; the model is spread over them."""
    cpus_per_task: int | None = setting(default=None, kind="run")
    """CPU cores of one allocation."""
    mem_gb: float | None = setting(default=None, kind="run")
    """Memory of one allocation."""
    timeout_min: int | None = setting(default=None, kind="run")
    """Time limit of one allocation."""

    def __post_init__(self) -> None:
        for key, least in (("gpus_per_node", 0), ("cpus_per_task", 1), ("timeout_min", 1)):
            found = getattr(self, key)
            if found is not None and found < least:
                raise ValueError(f"{key} is {found}; allowed: {least} or more")
        if self.mem_gb is not None and self.mem_gb <= 0:
            raise ValueError(f"mem_gb is {self.mem_gb}; allowed: more than 0")

    @property
    def given(self) -> dict[str, Any]:
        """The values that are set, by the names of this class."""
        return {key: value for key, value in values(self).items() if value is not None}
