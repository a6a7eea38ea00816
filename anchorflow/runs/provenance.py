"""The provenance of a result: the revision of the code, the versions of libraries, the peak memory."""

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
"""A file in a copy of the code (see `sweep.snapshot`) with the revision that was copied."""
REVISIONS = ".revisions"
"""A file in a run's directory with the revisions that made its records, one per line."""


class Revision(NamedTuple):
    """A version of this code. `git` is the commit, with + and a hash of uncommitted changes; None if installed."""

    version: str
    git: str | None

    def __str__(self) -> str:
        return self.git or f"version {self.version}"


@cache
def revision() -> Revision:
    """The revision of the running code, determined once and early: files may change while the process runs."""
    try:
        return Revision(**json.loads((ROOT / SNAPSHOT).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Revision(__version__, _git_commit(ROOT))


def environment(device: str, dtype: str, revisions: list[str]) -> dict[str, Any]:
    """The field `environment` of result.json; `revisions` are those that made the records."""
    from importlib.metadata import PackageNotFoundError, version

    packages: dict[str, str | None] = {"python": sys.version.split()[0], "anchorflow": revision().version}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = None
    return {"git": revision().git, "revisions": revisions, "packages": packages, "device": device, "dtype": dtype}


def note_revision(folder: Path) -> list[str]:
    """Record that this revision works on the run in `folder`; returns all revisions of its records, this one last."""
    file, now = folder / REVISIONS, str(revision())
    before: list[str] = []
    for records in (folder / "records.jsonl", *sorted(folder.glob("shards/*/records.jsonl"))):
        if records.exists() and records.stat().st_size:
            known = records.with_name(REVISIONS)
            before += known.read_text(encoding="utf-8").splitlines() if known.exists() else ["unknown"]
    found = [*dict.fromkeys(one for one in before if one != now), now]
    if len(found) > 1:
        log.warning(
            "its records also come from other revisions of the code: %s; this one is %s", ", ".join(found[:-1]), now
        )
    write_atomically(file, "".join(f"{one}\n" for one in found))
    return found


def _git_commit(root: Path) -> str | None:
    """The commit of the code in `root`; None if git does not track it (installed, perhaps inside another repository)."""
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
    """Peak memory in bytes: of the GPU if there is one, else of this process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return max(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
