"""Many runs: what is to be done, in which packs, where, and what became of it. Beside job.py the only code that sees Hydra."""

from anchorflow.sweep.composition import CheckSweep, MakeFolder, register_resolvers
from anchorflow.sweep.plugin import register
from anchorflow.sweep.settings import Launcher

__all__ = ["CheckSweep", "Launcher", "MakeFolder", "register", "register_resolvers"]
