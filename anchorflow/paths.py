"""Paths as people write them."""

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with ~ and ~user expanded as in a shell; a ~user that does not exist is left as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - pathlib's fails for ~nobody
