"""One run: its settings, its directory, its work, and how it ends.

Exported names are imported on first use: `anchorflow status` reads directories without loading experiments.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anchorflow.runs.budget import Budget
    from anchorflow.runs.compute import Memory, Shard, assemble
    from anchorflow.runs.job import KeptModel, execute, execute_settings
    from anchorflow.runs.rundir import RunDirectory, State
    from anchorflow.runs.settings import GROUPS, SWEEP_WIDE, Job, Settings, read_settings
    from anchorflow.runs.stopping import Stopped, stop_signals

_PARTS = {
    "budget": ("Budget",),
    "compute": ("Memory", "Shard", "assemble"),
    "job": ("KeptModel", "execute", "execute_settings"),
    "rundir": ("RunDirectory", "State"),
    "settings": ("GROUPS", "SWEEP_WIDE", "Job", "Settings", "read_settings"),
    "stopping": ("Stopped", "stop_signals"),
}
__all__ = [
    "GROUPS",
    "SWEEP_WIDE",
    "Budget",
    "Job",
    "KeptModel",
    "Memory",
    "RunDirectory",
    "Settings",
    "Shard",
    "State",
    "Stopped",
    "assemble",
    "execute",
    "execute_settings",
    "read_settings",
    "stop_signals",
]


def __getattr__(name: str) -> Any:
    for part, names in _PARTS.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{part}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
