"""The report's tables: a row for every cell, and where an experiment has variants, for every variant of it."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from anchorflow.report.cells import Cell, of_seeds, over_seeds, setting_names, shared_settings, typed
from anchorflow.report.tables.hypotheses import differing
from anchorflow.report.tables.sheets import Measured, Row, Sheet, written

HEADLINES = {
    "saliency": ("accuracy",),
    "classification": ("accuracy", "macro_f1", "ece"),
    "isolation": ("label_first_5/word_loyalty", "label_last_5/word_loyalty"),
    "attention_prediction": ("accuracy",),
    "reweighting": ("vanilla/accuracy", "reweighted/accuracy"),
    "compression": ("hidden_anchor/label_loyalty", "hidden_anchor/word_loyalty"),
    "diagnosis": ("accuracy", "spearman"),
}
"""What the overview shows of an experiment."""
THIRDS_AHEAD = {"saliency": ("S_wp_share", "S_pq_share"), "attention_prediction": ("AUCROC",)}
"""Curves of which it shows the means over the first and the last third of the layers."""
WITHOUT_VARIANT = {"isolation": "full", "reweighting": "reweighted"}
"""The variant that a metric without one belongs to (accuracy; gain)."""
BY_THIRDS = ("S_wp_share", "S_pq_share", "S_ww_share", "S_wp", "S_pq", "S_ww", "AUCROC")


def overview(cells: Sequence[Cell]) -> Sheet:
    """A row for each cell, with the numbers that its experiment is run for."""
    columns = ["experiment", "model", "dataset", "settings", "seeds", "found"]
    rows = [
        [cell.experiment, cell.model, cell.dataset, typed(cell.settings), str(len(cell.runs)), _headline(cell)]
        for cell in cells
    ]
    return Sheet("overview", "Overview", columns, rows)


def experiment(cells: Sequence[Cell]) -> Sheet:
    """All metrics of one experiment's cells but differences, which have a table of their own."""
    found = [(cell, *variant) for cell in cells for variant in _variants(cell).items()]
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
    """A row for each setting of an experiment that all its cells share: what the other tables do not say."""
    rows = []
    for name in dict.fromkeys(cell.experiment for cell in cells):
        runs = [run for cell in cells if cell.experiment == name for run in cell.runs]
        rows += [[name, *setting] for setting in shared_settings(runs).items()]
    return Sheet("settings", "Settings that all runs of an experiment share", ["experiment", "setting", "value"], rows)


def thirds(cells: Sequence[Cell]) -> Sheet | None:
    """Means of curves over the first and the last third of the layers, over seeds; None where no curve is over layers."""
    columns = ["experiment", "model", "dataset", "settings", "curve", "layers", "first third", "last third"]
    rows: list[Row] = []
    for cell in cells:
        for name in BY_THIRDS:
            curve = cell.result.curves.get(name)
            if curve is not None and curve.x == "layer":
                what = [cell.experiment, *cell.place, typed(cell.settings), name, str(len(curve.at))]
                rows.append([*what, *_thirds(cell, name)])
    return Sheet("thirds", "Means over thirds of the layers", columns, rows) if rows else None


def _thirds(cell: Cell, name: str) -> tuple[Measured, Measured]:
    """The curve's mean over the first and the last third of the layers, with standard errors over seeds."""
    found = [run.numbers().curves.get(name) for run in cell.runs]
    both = [ends(curve.values) for curve in found if curve is not None]
    first, last = (_over_seeds([end[i] for end in both] or [math.nan]) for i in (0, 1))
    return first, last


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Means over the first and the last third, of what is defined."""
    third = max(1, len(values) // 3)
    return tuple(_known_mean(part) for part in (values[:third], values[-third:]))  # type: ignore[return-value]


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _over_seeds(values: Sequence[float]) -> Measured:
    means, errors = over_seeds([[value] for value in values])
    return Measured(float(means[0]), float(errors[0]), of_seeds(sum(not math.isnan(v) for v in values), len(values)))


def _variants(cell: Cell) -> dict[str, dict[str, Measured]]:
    """Numbers by what stands before the last / of their names, and by what stands behind it."""
    found: dict[str, dict[str, Measured]] = {}
    differences = differing([cell])
    apart = {*differences, *(f"{name}_p" for name in differences)}  # a word in their names may hold a /
    for name in cell.result.metrics:
        variant, _, measure = name.rpartition("/")
        if cell.experiment == "diagnosis" and name == "layer":
            continue  # a setting
        if cell.experiment == "label_relationships":
            if not variant or name in apart:
                continue  # the number of examples is a setting, differences have their own table
            if variant == "guessing":  # the same at every number of examples
                measure += "_at_max"
        variant = variant or WITHOUT_VARIANT.get(cell.experiment, "")
        found.setdefault(variant, {})[measure] = cell.measured(name)
    return found


def _headline(cell: Cell) -> str:
    names: Iterable[str] = HEADLINES.get(cell.experiment, list(cell.result.metrics)[:3])
    if cell.experiment == "label_relationships":
        names = differing([cell])
    shown = []
    for name in names:
        if name in cell.result.metrics:
            found = cell.measured(name)
            error = "" if math.isnan(found.stderr) else f" ± {written(found.stderr, like=found.value)}"
            shown.append(f"{name} {written(found.value)}{error}")
    for name in THIRDS_AHEAD.get(cell.experiment, ()):
        first, last = _thirds(cell, name)
        shown.append(f"{name} {written(first.value)} → {written(last.value)}")
    return ", ".join(shown)
