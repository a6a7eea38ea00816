"""Find and read run directories."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from anchorflow.errors import UserError


def read_status(folder: Path) -> dict[str, Any]:
    """The content of `status.json`; empty if it is missing or damaged."""
    try:
        found = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def runs_below(paths: Iterable[Path]) -> list[Path]:
    """Every run directory at or below the paths, sorted. UserError for a path that is not a directory."""
    found: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; allowed: a run's directory, or one with runs below it.")
        if not path.is_dir():
            raise UserError(f"{path} is a file; allowed: a run's directory, or one with runs below it.")
        for folder, below, files in os.walk(path):
            if "status.json" in files or "result.json" in files:
                found.add(Path(folder))
                below.clear()  # a run contains no other runs
    return sorted(found)
