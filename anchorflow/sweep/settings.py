"""How a sweep runs: the schemas of conf/launcher/ (modelled on Hydra's submitit plugin) and of the node `sweep`."""

import shutil
from typing import Any, Literal

from anchorflow.models import Resources
from anchorflow.settings import configurable, setting

Where = Literal["local", "slurm", "submitit_local"]


@configurable
class Sweep:
    """Settings of a sweep as a whole."""

    scale: Literal["full", "small"] | None = setting(default=None, kind="run")
    """The size of a preset (sweep=...): the paper's, or a small one for a laptop."""
    context: Literal["2k", "4k"] | None = setting(default=None, kind="run")
    """The context length that a preset of "In-Context Learning Learns Label Relationships" fills with examples."""
    presets: tuple[str, ...] | None = setting(default=None, kind="run")
    """Run the cells of several presets as one sweep: [fig3_saliency, fig4_isolation]. Each keeps its own grid."""
    dry_run: bool = setting(default=False, kind="run")
    """Print the plan and stop."""
    retry_failed: bool = setting(default=False, kind="run")
    """Run only the cells that failed."""
    code: Literal["snapshot", "live"] = setting(default="snapshot", kind="run")
    """The code that submitted jobs run: a copy taken at submission, or the code as it is when they start."""
    wait: bool = setting(default=True, kind="run")
    """false returns after submission; check with: anchorflow status outputs."""


@configurable
class Launcher:
    """Where the cells of a sweep run, and with which resources. null leaves a setting to the cluster."""

    mode: Literal["auto", "local", "slurm", "submitit_local"] = setting(default="auto", kind="run")
    """auto is SLURM if `sbatch` is on the PATH, else this process."""
    packs: int | None = setting(default=None, kind="run")
    """Total number of allocations (packs); null: one per model. The cells of a pack share a model that is loaded once."""
    cells_per_pack: int | None = setting(default=None, kind="run")
    """The largest number of cells in one allocation."""
    array_parallelism: int = setting(default=256, kind="run")
    """The largest number of packs that run at once."""
    partition: str | None = setting(default=None, kind="run")
    """SLURM's partition."""
    account: str | None = setting(default=None, kind="run")
    """SLURM's account."""
    qos: str | None = setting(default=None, kind="run")
    """SLURM's quality of service."""
    constraint: str | None = setting(default=None, kind="run")
    """Features that the nodes must have."""
    exclude: str | None = setting(default=None, kind="run")
    """Nodes to exclude."""
    gpus_per_node: int | None = setting(default=None, kind="run")
    """GPUs of one allocation."""
    cpus_per_task: int | None = setting(default=None, kind="run")
    """CPU cores of one allocation."""
    mem_gb: float | None = setting(default=None, kind="run")
    """Memory of one allocation."""
    gpu_mem_gb: float | None = setting(default=None, kind="run")
    """Memory of one GPU; the plan refuses cells that do not fit. If nothing sets the number of GPUs, a job gets as many as the
    model needs."""
    timeout_min: int = setting(default=60, kind="run")
    """Time limit of one allocation."""
    signal_delay_s: int = setting(default=90, kind="run")
    """How long before its end a job gets a signal, so that it is requeued with its records kept."""
    max_num_timeout: int = setting(default=3, kind="run")
    """How often a job is requeued after a timeout."""
    max_requeues: int = setting(default=10, kind="run")
    """How often a job is requeued for any reason."""
    setup: tuple[str, ...] = setting(default=(), kind="run")
    """Shell lines before the job: [module load cuda]."""
    additional_parameters: dict[str, Any] | None = setting(default=None, kind="run")
    """Any other options of sbatch: {nodelist: n1}."""
    per_model: dict[str, Resources] | None = setting(default=None, kind="run")
    """Other resources for the jobs of some models: {llama-65b: {gpus_per_node: 4}, gpt2*: {timeout_min: 30}}."""

    def __post_init__(self) -> None:
        least = {"packs": 1, "cells_per_pack": 1, "array_parallelism": 1, "timeout_min": 1, "cpus_per_task": 1}
        for key in ("gpus_per_node", "signal_delay_s", "max_num_timeout", "max_requeues"):
            least[key] = 0
        for key, value in least.items():
            found = getattr(self, key)
            if found is not None and found < value:
                raise ValueError(f"{key} is {found}; allowed: {value} or more")
        for key in ("mem_gb", "gpu_mem_gb"):
            found = getattr(self, key)
            if found is not None and found <= 0:
                raise ValueError(f"{key} is {found}; allowed: more than 0")

    @property
    def where(self) -> Where:
        """The mode, with `auto` resolved."""
        if self.mode != "auto":
            return self.mode
        return "slurm" if shutil.which("sbatch") else "local"

    @property
    def resources(self) -> dict[str, Any]:
        """The resources of a job, by the names of this class, without those left to the cluster."""
        keys = ("partition", "account", "qos", "constraint", "exclude", "gpus_per_node", "cpus_per_task", "mem_gb")
        found = {key: getattr(self, key) for key in (*keys, "timeout_min")}
        return {key: value for key, value in (found | (self.additional_parameters or {})).items() if value is not None}
