"""Write the files of a run directory: atomically, as plain JSON."""

import json
import os
from pathlib import Path
from typing import Any

from anchorflow.errors import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all: under another name, flushed to disk, then renamed."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def dumps(value: Any, indent: int | None = None) -> str:
    """The JSON of all files in a run directory. UserError for nan and infinity, which only a broken model produces."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except ValueError as error:
        raise UserError(
            "the model gives numbers that are nan or infinite: they overflow in its dtype (try dtype=float32), its weights "
            "are damaged, or learning diverged (lower experiment.lr)."
        ) from error


def counted(n: int, what: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
