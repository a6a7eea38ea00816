"""Paths as people write them."""

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~user replaced, as a shell does; one of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's fails for ~nobody
