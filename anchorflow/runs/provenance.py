"""Where a result comes from: the code's revision, the versions of what it stands on, the memory that it took."""

import hashlib
import json
import logging
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from anchorflow import __version__
from anchorflow.results import write_atomically

log = logging.getLogger(__name__)
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "numpy", "hydra-core", "wandb")
ROOT = Path(__file__).parents[2]
SNAPSHOT = ".anchorflow-revision"
"""In a copy of the code (see `sweep.snapshot`): what it is a copy of."""
REVISIONS = ".revisions"
"""In a run's directory: the revisions that its records are of, one a line."""


class Revision(NamedTuple):
    """A version of this code. `git` is the commit, with a + and a hash of what differs from it; None for an installed one."""

    version: str
    git: str | None

    def __str__(self) -> str:
        return self.git or f"version {self.version}"


@cache
def revision() -> Revision:
    """That of the code that runs: asked once, early, since files may change under a process."""
    try:
        return Revision(**json.loads((ROOT / SNAPSHOT).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Revision(__version__, _git_commit(ROOT))


def environment(device: str, dtype: str, revisions: list[str]) -> dict[str, Any]:
    """What result.json keeps of them; `revisions` are those that the records are of."""
    from importlib.metadata import PackageNotFoundError, version

    packages: dict[str, str | None] = {"python": sys.version.split()[0], "anchorflow": revision().version}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = None
    return {"git": revision().git, "revisions": revisions, "packages": packages, "device": device, "dtype": dtype}


def note_revision(folder: Path) -> list[str]:
    """Write down that this revision works on the run in `folder`; all that its records are of, this one last."""
    file, now = folder / REVISIONS, str(revision())
    before: list[str] = []
    for records in (folder / "records.jsonl", *sorted(folder.glob("shards/*/records.jsonl"))):
        if records.exists() and records.stat().st_size:
            known = records.with_name(REVISIONS)
            before += known.read_text(encoding="utf-8").splitlines() if known.exists() else ["unknown"]
    found = [*dict.fromkeys(one for one in before if one != now), now]
    if len(found) > 1:
        log.warning(
            "its records are of other revisions of the code, too: %s; this one is %s", ", ".join(found[:-1]), now
        )
    write_atomically(file, "".join(f"{one}\n" for one in found))
    return found


def _git_commit(root: Path) -> str | None:
    """The commit of the code in `root`; None where git does not keep it (installed, perhaps inside another's repository)."""
    try:
        _git(root, "ls-files", "--error-unmatch", "anchorflow/runs/provenance.py")
        commit = _git(root, "rev-parse", "HEAD").decode().strip()
        changed = _git(root, "diff", "HEAD", "--no-ext-diff", "--binary")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + (f"+{hashlib.sha256(changed).hexdigest()[:8]}" if changed else "")


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, timeout=10, check=True).stdout


def peak_memory() -> int:
    """Bytes: of the GPU where there is one, else of this process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return max(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
