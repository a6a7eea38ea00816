"""Copy the code at submission, so that later edits do not affect queued jobs."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from anchorflow.errors import UserError
from anchorflow.results import dumps, write_atomically
from anchorflow.runs.provenance import ROOT, SNAPSHOT, revision
from anchorflow.sweep.cells import Cell

START = "start.py"
STARTS = '''"""Run the module after -m with the code next to this file, which comes first on Python's path."""

import os
import runpy
import sys

sys.argv = sys.argv[sys.argv.index("-m") + 1 :]
sys.path.append(os.getcwd())
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
'''


def take(folder: Path, cells: Iterable[Cell]) -> Path:
    """Copy this package, and local modules with classes of the cells, to code/ in `folder`. Returns that directory.

    UserError if it cannot be written.
    """
    code = folder / "code"
    try:
        _copy(ROOT / "anchorflow", code)
        for name in sorted({name for cell in cells for name in _modules(cell.config)} - {"anchorflow"}):
            if (own := _own(name)) is not None:
                _copy(own, code)
        write_atomically(code / SNAPSHOT, dumps(revision()._asdict()) + "\n")
        write_atomically(code / START, STARTS)
    except OSError as error:
        raise UserError(
            f"the code cannot be copied to {error.filename or code} ({error.strerror}); choose another hydra.sweep.dir, or "
            "sweep.code=live."
        ) from error
    return code


def python(code: Path | None) -> str:
    """The command for a job instead of `python -u`: it uses the code in `code`, or, if None, the code at the job's start."""
    return " ".join(map(shlex.quote, [sys.executable, *([] if code is None else ["-u", str(code / START)])]))


def _copy(source: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy2(source, into)
    else:
        left_out = shutil.ignore_patterns("__pycache__", ".git", "outputs")
        shutil.copytree(source, into / source.name, ignore=left_out, dirs_exist_ok=True)


def _modules(node: Any) -> Iterator[str]:
    """The top-level modules of all classes in a configuration."""
    if isinstance(node, dict):
        if isinstance(target := node.get("_target_"), str):
            yield target.partition(".")[0]
        for value in node.values():
            yield from _modules(value)


def _own(name: str) -> Path | None:
    """The path of a module below the working directory (a user's own); None for an installed one."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    place = Path(next(iter(spec.submodule_search_locations or []), spec.origin or "")).absolute()
    return place if place.parent == Path.cwd() else None
