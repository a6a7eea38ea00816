"""Many runs: what is to be done, in which packs, where, and what became of it. The only code that sees Hydra."""

from anchorflow.sweep.composition import CheckSweep, MakeFolder
from anchorflow.sweep.entry import compose_node, prepare_hydra, start
from anchorflow.sweep.settings import Launcher, Sweep

__all__ = ["CheckSweep", "Launcher", "MakeFolder", "Sweep", "compose_node", "prepare_hydra", "start"]
