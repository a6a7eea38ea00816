"""The summary at the end of a sweep: headline metrics over seeds, the time taken, the next command."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anchorflow.sweep.status import columns, duration

MOST_RUNS = 500
"""The most runs to read for the table; for larger sweeps there is `anchorflow report`."""


def summary(folders: Sequence[Path], sweep_dir: str, elapsed_s: float) -> list[str]:
    """One row per cell (runs that differ only in their seed) of the runs in `folders`, with mean ± standard error."""
    complete = [folder for folder in folders if (folder / "result.json").exists()]
    lines = _table(complete) if 0 < len(complete) <= MOST_RUNS else []
    following = [f"took {duration(elapsed_s)}"]
    if complete:
        following.append(f"next: anchorflow report {sweep_dir} (tables, figures, and a page)")
    return [*lines, "; ".join(following)]


def headline_metric(result: Mapping[str, Any]) -> float | None:
    """The experiment's first headline metric, which an optimiser optimises; None if it is undefined."""
    from anchorflow.report.view import view_of
    from anchorflow.results import Result

    view = view_of(result["experiment"], result["config"]["experiment"].get("_target_"))
    found = Result.from_json(result)
    names = view.headline_of(found, []) or list(found.metrics)
    value = found.metrics.get(names[0], math.nan) if names else math.nan
    return None if math.isnan(value) else float(value)


def _table(folders: Sequence[Path]) -> list[str]:
    from anchorflow.report.cells import into_cells
    from anchorflow.report.collect import collect
    from anchorflow.report.tables.overview import overview

    cells, _ = into_cells(collect(folders).runs)
    sheet = overview(cells)
    rows = [sheet.columns, *([str(value) for value in row] for row in sheet.rows)]
    settings = sheet.columns.index("settings")
    if not any(row[settings] for row in rows[1:]):
        rows = [[*row[:settings], *row[settings + 1 :]] for row in rows]
    return columns(rows, left=len(rows[0]))
