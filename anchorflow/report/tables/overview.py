"""The tables of every report: one row per cell and, if an experiment has variants, per variant."""

import math
from collections.abc import Sequence

import numpy as np

from anchorflow.report.cells import Cell, of_seeds, over_seeds, setting_names
from anchorflow.report.run_settings import shared_settings, typed
from anchorflow.report.tables.sheets import Measured, Row, Sheet, with_error, written

FIRST = 3
"""The number of metrics in the overview for an experiment whose view names none."""


def overview(cells: Sequence[Cell]) -> Sheet:
    """One row per cell, with the headline metrics of its experiment."""
    columns = ["experiment", "model", "dataset", "settings", "seeds", "found"]
    rows = [
        [cell.experiment, cell.model, cell.dataset, typed(cell.settings), str(len(cell.runs)), _found(cell)]
        for cell in cells
    ]
    return Sheet("overview", "Overview", columns, rows)


def experiment(cells: Sequence[Cell]) -> Sheet:
    """The metrics of one experiment's cells."""
    found = [(cell, *variant) for cell in cells for variant in variants(cell).items()]
    measures = dict.fromkeys(measure for *_, of_variant in found for measure in of_variant)
    has_variants = any(variant for _, variant, _ in found)
    names = setting_names(cells)
    columns = ["model", "dataset", *names, *["variant"] * has_variants, "seeds", "stderr over", *measures]
    rows: list[Row] = []
    for cell, variant, of_variant in found:
        numbers = [of_variant.get(measure, Measured(math.nan)) for measure in measures]
        what = [*cell.head(names), *[variant] * has_variants, str(len(cell.runs)), cell.over]
        rows.append([*what, *numbers])
    name = cells[0].experiment
    return Sheet(name, f"{name}: mean ± standard error", columns, rows)


def shared(cells: Sequence[Cell]) -> Sheet:
    """One row for each setting that all runs of an experiment, model or dataset share, which other tables omit."""
    rows = shared_settings([run for cell in cells for run in cell.runs])
    title = "Settings that all runs of an experiment, model or dataset share"
    return Sheet("settings", title, ["of", "setting", "value"], rows)


def thirds(cells: Sequence[Cell]) -> Sheet | None:
    """Means of curves over the first and the last third of the layers, over seeds; None if no curve is over layers."""
    columns = ["experiment", "model", "dataset", "settings", "curve", "layers", "first third", "last third"]
    rows: list[Row] = []
    for cell in cells:
        for name in cell.view.thirds:
            curve = cell.result.curves.get(name)
            if curve is not None and curve.x == "layer":
                what = [cell.experiment, *cell.place, typed(cell.settings), name, str(len(curve.at))]
                rows.append([*what, *_thirds(cell, name)])
    return Sheet("thirds", "Means over thirds of the layers", columns, rows) if rows else None


def _thirds(cell: Cell, name: str) -> tuple[Measured, Measured]:
    """The curve's mean over the first and the last third of the layers, with standard errors over seeds."""
    found = [run.numbers.curves.get(name) for run in cell.runs]
    both = [ends(curve.values) for curve in found if curve is not None]
    first, last = (_over_seeds([end[i] for end in both] or [math.nan]) for i in (0, 1))
    return first, last


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Means of the defined values over the first and the last third."""
    third = max(1, len(values) // 3)
    return tuple(_known_mean(part) for part in (values[:third], values[-third:]))  # type: ignore[return-value]


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _over_seeds(values: Sequence[float]) -> Measured:
    means, errors = over_seeds([[value] for value in values])
    return Measured(float(means[0]), float(errors[0]), of_seeds(sum(not math.isnan(v) for v in values), len(values)))


def headline(cell: Cell) -> list[str]:
    """The headline metrics of a cell's experiment that the cell has."""
    named = cell.view.headline_of(cell.result, [])
    if named is None:
        return _measures(cell)[:FIRST]
    return [name for name in named if name in cell.result.metrics]


def _measures(cell: Cell) -> list[str]:
    """The metrics that are not settings."""
    settings = cell.decided
    return [name for name in cell.result.metrics if name not in settings]


def variants(cell: Cell) -> dict[str, dict[str, Measured]]:
    """Numbers by variant and measure."""
    rows = cell.view.rows_of(cell.result, [])
    if rows is None:
        parts = {name: name.rpartition("/") for name in _measures(cell)}
        rows = {name: (variant or cell.view.default_variant, measure) for name, (variant, _, measure) in parts.items()}
    found: dict[str, dict[str, Measured]] = {}
    for name, (variant, measure) in rows.items():
        if name in cell.result.metrics:
            found.setdefault(variant, {})[measure] = cell.measured(name)
    return found


def _found(cell: Cell) -> str:
    shown = []
    for name in headline(cell):
        found = cell.measured(name)
        shown.append(f"{name} {with_error(found.value, found.stderr)}")
    for name in cell.view.thirds_ahead:
        first, last = _thirds(cell, name)
        shown.append(f"{name} {written(first.value)} → {written(last.value)}")
    return ", ".join(shown)
