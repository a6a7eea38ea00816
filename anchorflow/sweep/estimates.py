"""Estimate the run time of cells from earlier runs of their kind."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from anchorflow.sweep.cells import Cell

READ = 3
"""The most earlier runs to read for one kind."""


class Pace(NamedTuple):
    """The work and the speed of earlier runs of a kind."""

    units: float
    per_s: float


class Estimates:
    """Estimates in seconds, from runs of the same experiment and model on the same dataset, else on another one."""

    def __init__(self) -> None:
        self._known: dict[Path, Pace | None] = {}

    def of(self, cell: Cell) -> float | None:
        """The estimate for a cell; None if no run of its kind is complete."""
        dataset, model = cell.folder.parents[:2]
        pace = self._pace(dataset, "*/result.json") or self._pace(model, "*/*/result.json")
        if pace is None:
            return None
        node = cell.config["experiment"]
        units = node.get("n_queries") or node.get("repetitions") or pace.units
        return float(units) / pace.per_s

    def _pace(self, folder: Path, pattern: str) -> Pace | None:
        if folder not in self._known:
            found = [pace for path in islice(folder.glob(pattern), READ) if (pace := _read(path)) is not None]
            self._known[folder] = (
                Pace(*(sum(values) / len(found) for values in zip(*found, strict=True))) if found else None
            )
        return self._known[folder]


def _read(path: Path) -> Pace | None:
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pace = Pace(sum(result["counts"].values()), float(result["timing"]["queries_per_s"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return pace if pace.per_s > 0 else None
