"""Sweeps of many runs: planning, packing, submission and status. The only package that uses Hydra.

Exported names are imported on first use: `anchorflow status` does not load Hydra.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anchorflow.sweep.composition import CheckSweep, MakeFolder
    from anchorflow.sweep.entry import compose_node, prepare_hydra, start
    from anchorflow.sweep.settings import Launcher, Sweep

_PARTS = {
    "composition": ("CheckSweep", "MakeFolder"),
    "entry": ("compose_node", "prepare_hydra", "start"),
    "settings": ("Launcher", "Sweep"),
}
__all__ = ["CheckSweep", "Launcher", "MakeFolder", "Sweep", "compose_node", "prepare_hydra", "start"]


def __getattr__(name: str) -> Any:
    for part, names in _PARTS.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{part}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
