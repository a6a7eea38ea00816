"""Where a result comes from: the code's revision, the versions of what it stands on, the memory that it took."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from anchorflow import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "hydra-core", "wandb")
ROOT = Path(__file__).parents[2]


def environment(device: str, dtype: str) -> dict[str, Any]:
    """What result.json keeps of them."""
    from importlib.metadata import PackageNotFoundError, version

    packages: dict[str, str | None] = {"python": sys.version.split()[0], "anchorflow": __version__}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = None
    return {"git": _git_revision(), "packages": packages, "device": device, "dtype": dtype}


def _git_revision() -> str | None:
    """The commit of this code, with a + where files differ from it; None outside a checkout of its own."""
    if not (ROOT / "launch.py").exists():  # installed, perhaps inside another project's repository
        return None
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def peak_memory() -> int:
    """Bytes: of the GPU where there is one, else of this process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return max(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
