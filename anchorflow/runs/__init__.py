"""One run: its settings, its directory, its work, and how it ends."""

from anchorflow.runs.budget import Budget
from anchorflow.runs.compute import Memory, Shard, assemble, compute
from anchorflow.runs.job import KeptModel, execute, execute_settings
from anchorflow.runs.rundir import RunDirectory, State
from anchorflow.runs.settings import GROUPS, SWEEP_WIDE, Job, Settings, read_settings
from anchorflow.runs.stopping import Stopped, stop_signals

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
    "compute",
    "execute",
    "execute_settings",
    "read_settings",
    "stop_signals",
]
