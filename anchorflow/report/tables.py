"""The report's tables: a row for every cell, and where an experiment has variants, for every variant of it."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from anchorflow.metrics import holm
from anchorflow.report.cells import Cell, over_seeds, planes
from anchorflow.report.sheets import Measured, Row, Sheet, written

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
OF_OTHER_TESTS = ("regimes", "repetitions")
"""Settings in which runs may differ that test the same."""
DIFFERENCE = re.compile(r".+_minus_.+")
WITHOUT_VARIANT = {"isolation": "full", "reweighting": "reweighted"}
"""The variant that a metric without one belongs to (accuracy; gain)."""
BY_THIRDS = ("S_wp_share", "S_pq_share", "S_ww_share", "S_wp", "S_pq", "S_ww", "AUCROC")


def overview(cells: Sequence[Cell]) -> Sheet:
    """A row for each cell, with the numbers that its experiment is run for."""
    columns = ["experiment", "model", "dataset", "settings", "seeds", "found"]
    rows = [
        [cell.experiment, cell.model, cell.dataset, settings(cell.settings), str(len(cell.runs)), _headline(cell)]
        for cell in cells
    ]
    return Sheet("overview", "Overview", columns, rows)


def settings(of: Mapping[str, str]) -> str:
    """As they are written on the command line."""
    return ", ".join(f"{name}={value}" for name, value in of.items())


def experiment(cells: Sequence[Cell]) -> Sheet:
    """All metrics of one experiment's cells but differences, which have a table of their own."""
    found = [(cell, *variant) for cell in cells for variant in _variants(cell).items()]
    measures = dict.fromkeys(measure for *_, of_variant in found for measure in of_variant)
    has_variants = any(variant for _, variant, _ in found)
    columns = ["model", "dataset", *_settings(cells), *["variant"] * has_variants, "seeds", "stderr over", *measures]
    rows: list[Row] = []
    for cell, variant, of_variant in found:
        numbers = [of_variant.get(measure, Measured(math.nan)) for measure in measures]
        what = [*_head(cell, cells), *[variant] * has_variants, str(len(cell.runs)), cell.over]
        rows.append([*what, *numbers])
    name = cells[0].experiment
    return Sheet(name, f"{name}: mean ± standard error", columns, rows)


def differing(cells: Sequence[Cell]) -> list[str]:
    """The names of paired differences that come with a p."""
    names = dict.fromkeys(name for cell in cells for name in cell.result.metrics)
    return [name for name in names if DIFFERENCE.fullmatch(name) and f"{name}_p" in names]


class Tested(NamedTuple):
    """One null hypothesis over models and datasets: its name, the settings that tell it from another of that name, and
    for every cell the name that the cell itself has for it (which also says where a side changes)."""

    name: str
    settings: Mapping[str, str]
    cells: Sequence[tuple[Cell, str]]


def hypotheses(cells: Sequence[Cell]) -> list[Tested]:
    """The null hypotheses of these cells, whatever other regimes their runs had.

    What several runs have tested counts once, from the run with most repetitions: it is one test in the correction.
    """
    members: dict[str, list[tuple[Cell, str]]] = {}
    for cell in cells:
        names = differing([cell])
        general = [_at_any_turn(name) for name in names]
        for name, shared in zip(names, general, strict=True):
            members.setdefault(shared if general.count(shared) == 1 else name, []).append((cell, name))
    found = []
    for name, having in members.items():
        most: dict[tuple[str, ...], Cell] = {}
        for cell, _ in sorted(having, key=lambda one: -_repetitions(one[0])):
            kept = (value for setting, value in cell.settings.items() if setting not in OF_OTHER_TESTS)
            most.setdefault((*cell.place, *kept), cell)
        once = [cell for cell, _ in having if any(cell is other for other in most.values())]
        own = {id(cell): of_cell for cell, of_cell in having}
        for settings_, plane in planes(once, besides=OF_OTHER_TESTS):
            found.append(Tested(name, settings_, [(cell, own[id(cell)]) for cell in plane]))
    return found


def _repetitions(cell: Cell) -> int:
    return sum(run.result.get("counts", {}).get("repetitions", 0) for run in cell.runs)


def _at_any_turn(name: str) -> str:
    """The name of a difference at twice its change point, with k for the number, which depends on the dataset."""
    turns = set(re.findall(r"(?:flip|default)_after_(\d+)", name))
    at = re.search(r"_at_(\d+)$", name)
    if len(turns) != 1 or at is None or int(at.group(1)) != 2 * int(min(turns)):
        return name
    return re.sub(r"_after_\d+", "_after_k", name[: at.start()]) + "_at_2k"


def differences(cells: Sequence[Cell]) -> Sheet | None:
    """The paired differences of label_relationships with their 95 % intervals, hypothesis by hypothesis; None without any.

    `p` is that of each test alone, `p over cells` corrected over the models and datasets of its hypothesis (Holm).
    """
    rows: list[Row] = []
    for test in hypotheses(cells):
        alone = [cell.result.metrics.get(f"{name}_p", math.nan) for cell, name in test.cells]
        for (cell, name), p, corrected in zip(test.cells, alone, holm(alone), strict=True):
            rows.append([*_head(cell, cells), name, _measured(cell, name), *_bounds(cell, name), p, corrected])
    columns = ["model", "dataset", *_settings(cells), "difference", "mean", "low", "high", "p", "p over cells"]
    return Sheet("differences", "Paired differences with 95 % intervals", columns, rows) if rows else None


def _bounds(cell: Cell, name: str) -> tuple[float, float]:
    """The 95 % interval, as the experiment's table has it."""
    table = cell.result.tables.get("differences")
    if table is None or name not in table.rows or not {"low", "high"} <= set(table.columns):
        return math.nan, math.nan
    row = dict(zip(table.columns, table.values[list(table.rows).index(name)], strict=True))
    return row["low"], row["high"]


def thirds(cells: Sequence[Cell]) -> Sheet | None:
    """Means of curves over the first and the last third of the layers, over seeds; None where no curve is over layers."""
    columns = ["experiment", "model", "dataset", "settings", "curve", "layers", "first third", "last third"]
    rows: list[Row] = []
    for cell in cells:
        for name in BY_THIRDS:
            curve = cell.result.curves.get(name)
            if curve is not None and curve.x == "layer":
                what = [cell.experiment, *cell.place, settings(cell.settings), name, str(len(curve.at))]
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
    return Measured(float(means[0]), float(errors[0]), _of_seeds(sum(not math.isnan(v) for v in values), len(values)))


def _of_seeds(known: int, seeds: int) -> str:
    return f"{known} of {seeds} seeds" if 0 < known < seeds else ""


def _measured(cell: Cell, name: str) -> Measured:
    aside = _of_seeds(cell.known.get(name, 0), len(cell.runs)) if cell.over == "seeds" else ""
    return Measured(cell.result.metrics[name], cell.result.stderr.get(name, math.nan), aside)


def _variants(cell: Cell) -> dict[str, dict[str, Measured]]:
    """Numbers by what stands before the last / of their names, and by what stands behind it."""
    found: dict[str, dict[str, Measured]] = {}
    differences = differing([cell])
    apart = {*differences, *(f"{name}_p" for name in differences)}  # a word in their names may hold a /
    for name in cell.result.metrics:
        variant, _, measure = name.rpartition("/")
        if cell.experiment == "label_relationships":
            if not variant or name in apart:
                continue  # the number of examples is a setting, differences have their own table
            if variant == "guessing":  # the same at every number of examples
                measure += "_at_max"
        variant = variant or WITHOUT_VARIANT.get(cell.experiment, "")
        found.setdefault(variant, {})[measure] = _measured(cell, name)
    return found


def _headline(cell: Cell) -> str:
    names: Iterable[str] = HEADLINES.get(cell.experiment, list(cell.result.metrics)[:3])
    if cell.experiment == "label_relationships":
        names = differing([cell])
    shown = []
    for name in names:
        if name in cell.result.metrics:
            found = _measured(cell, name)
            error = "" if math.isnan(found.stderr) else f" ± {written(found.stderr, like=found.value)}"
            shown.append(f"{name} {written(found.value)}{error}")
    for name in THIRDS_AHEAD.get(cell.experiment, ()):
        first, last = _thirds(cell, name)
        shown.append(f"{name} {written(first.value)} → {written(last.value)}")
    return ", ".join(shown)


def _settings(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(name for cell in cells for name in cell.settings))


def _head(cell: Cell, cells: Sequence[Cell]) -> list[str]:
    return [*cell.place, *(cell.settings.get(name, "") for name in _settings(cells))]
