"""Where the cells of a sweep run, and with what: the schema of conf/launcher/, after that of Hydra's submitit plugin."""

import shutil
from dataclasses import dataclass
from typing import Any, Literal

Where = Literal["local", "slurm", "submitit_local"]


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """`auto` is SLURM where `sbatch` is on the PATH, else this process. What is None is left to the cluster."""

    mode: Literal["auto", "local", "slurm", "submitit_local"] = "auto"
    packs: int | None = None
    cells_per_pack: int | None = None
    array_parallelism: int = 256
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    mem_gb: float | None = None
    timeout_min: int = 60
    signal_delay_s: int = 90
    max_num_timeout: int = 3
    max_requeues: int = 10
    setup: tuple[str, ...] = ()
    additional_parameters: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        least = {"packs": 1, "cells_per_pack": 1, "array_parallelism": 1, "timeout_min": 1, "cpus_per_task": 1}
        for key in ("gpus_per_node", "signal_delay_s", "max_num_timeout", "max_requeues"):
            least[key] = 0
        for key, value in least.items():
            found = getattr(self, key)
            if found is not None and found < value:
                raise ValueError(f"{key} is {found}; allowed: {value} or more")
        if self.mem_gb is not None and self.mem_gb <= 0:
            raise ValueError(f"mem_gb is {self.mem_gb}; allowed: more than 0")

    @property
    def where(self) -> Where:
        """The mode, `auto` decided."""
        if self.mode != "auto":
            return self.mode
        return "slurm" if shutil.which("sbatch") else "local"

    @property
    def resources(self) -> dict[str, Any]:
        """What a job is given, by the names of this class; without what is left to the cluster."""
        keys = ("partition", "account", "qos", "constraint", "exclude", "gpus_per_node", "cpus_per_task", "mem_gb")
        found = {key: getattr(self, key) for key in (*keys, "timeout_min")}
        return {key: value for key, value in (found | (self.additional_parameters or {})).items() if value is not None}
