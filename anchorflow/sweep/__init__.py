"""Many runs: what is to be done, in which packs, where, and what became of it. Beside job.py the only code that sees Hydra."""

from anchorflow.sweep.composition import CheckSweep, MakeFolder, mistakes_told, register_resolvers, switches_first
from anchorflow.sweep.plugin import register
from anchorflow.sweep.settings import Launcher

__all__ = ["CheckSweep", "Launcher", "MakeFolder", "mistakes_told", "register", "register_resolvers", "switches_first"]
