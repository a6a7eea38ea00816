"""Null hypotheses: which runs' tests belong together, and their tables and heat maps."""

import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from anchorflow.report.cells import Cell, planes, setting_names, typed
from anchorflow.report.drawing import canvas, footnotes, matrix
from anchorflow.report.tables.sheets import LONG, UNDEFINED, Row, Sheet, clean
from anchorflow.results import Result, Table
from anchorflow.results.statistics import holm

DIFFERENCE = re.compile(r".+_minus_.+")
OF_OTHER_TESTS = ("regimes", "repetitions")
"""Settings in which runs may differ that test the same."""
NAME = 30
"""Characters of a model's or dataset's name along a heat map."""
LEVEL = 0.05
MARKS = "* p < 0.05, corrected over all cells (Holm). In brackets: default labels do not beat guessing."


class Test(NamedTuple):
    """What a cell says of a null hypothesis. `name` is the cell's own for the difference: it says where a side changes."""

    cell: Cell
    name: str
    corrected: float

    @property
    def difference(self) -> float:
        """The mean of the paired differences."""
        return self.cell.result.metrics[self.name]

    @property
    def p(self) -> float:
        """Of this test alone; nan without any."""
        return self.cell.result.metrics.get(f"{self.name}_p", math.nan)

    @property
    def fails(self) -> bool:
        """Whether the default labels' log-likelihood at the largest context is not above guessing: there the labels were
        not learned, and a difference says nothing.
        """
        return bool(self.cell.result.metrics.get("default_minus_guessing", math.nan) <= 0)

    def __str__(self) -> str:
        """As a table shows it: * where the null hypothesis is rejected at 5 % over all cells, brackets where default fails."""
        text = f"{self.difference:+.2f}{'*' if self.corrected < LEVEL else ''}"
        return f"({text})" if self.fails else text


@dataclass(frozen=True)
class Hypothesis:
    """One null hypothesis over models and datasets; `settings` tell it from another of its name."""

    name: str
    settings: Mapping[str, str]
    tests: Sequence[Test]

    @property
    def title(self) -> str:
        """For people."""
        return clean(", ".join([self.name.replace("_", " "), *filter(None, [typed(self.settings)])]), LONG)

    @property
    def grid(self) -> tuple[list[str], list[str], list[list[Test | None]]]:
        """Models, datasets, and [model][dataset]: None where there is no run."""
        models, datasets = (list(dict.fromkeys(test.cell.place[i] for test in self.tests)) for i in (0, 1))
        of = {test.cell.place: test for test in self.tests}
        return models, datasets, [[of.get((model, dataset)) for dataset in datasets] for model in models]


def differing(result: Result) -> list[str]:
    """The names of paired differences that come with a p."""
    return [name for name in result.metrics if DIFFERENCE.fullmatch(name) and f"{name}_p" in result.metrics]


def hypotheses(cells: Sequence[Cell]) -> list[Hypothesis]:
    """The null hypotheses of these cells, whatever other regimes their runs had; p corrected over each one's cells (Holm).

    What several runs have tested counts once, from the run with most repetitions: it is one test in the correction.
    """
    members: dict[str, list[tuple[Cell, str]]] = {}
    for cell in cells:
        names = differing(cell.result)
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
        for settings, plane in planes(once, besides=OF_OTHER_TESTS):
            tests = [Test(cell, own[id(cell)], math.nan) for cell in plane]
            corrected = holm([test.p for test in tests])
            tests = [test._replace(corrected=p) for test, p in zip(tests, corrected, strict=True)]
            found.append(Hypothesis(name, settings, tests))
    return found


def sheets(cells: Sequence[Cell]) -> list[Sheet]:
    """All differences, and a table for each null hypothesis."""
    found = hypotheses(cells)
    every = differences(found, cells)
    return [*([] if every is None else [every]), *map(sheet, _without_guessing(found))]


def heat_maps(cells: Sequence[Cell]) -> list[tuple[str, Callable[[], Figure]]]:
    """A picture for each null hypothesis."""
    return [(one.name, partial(heat_map, one)) for one in _without_guessing(hypotheses(cells))]


def _without_guessing(found: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Whether default labels beat guessing is no hypothesis, but what the others' brackets say."""
    return [one for one in found if not one.name.endswith("_minus_guessing")]


def differences(found: Sequence[Hypothesis], cells: Sequence[Cell]) -> Sheet | None:
    """All paired differences with their 95 % intervals, hypothesis by hypothesis; None without any.

    `p` is that of each test alone, `p over cells` corrected over the models and datasets of its hypothesis.
    """
    names = setting_names(cells)
    rows: list[Row] = [
        [*t.cell.head(names), t.name, t.cell.measured(t.name), *_bounds(t.cell, t.name), t.p, t.corrected]
        for hypothesis in found
        for t in hypothesis.tests
    ]
    columns = ["model", "dataset", *names, "difference", "mean", "low", "high", "p", "p over cells"]
    return Sheet("differences", "Paired differences with 95 % intervals", columns, rows) if rows else None


def sheet(found: Hypothesis) -> Sheet:
    """Models down, datasets across."""
    models, datasets, grid = found.grid
    rows = [[model, *map(_written, row)] for model, row in zip(models, grid, strict=True)]
    return Sheet(found.name, found.title, ["model", *datasets], rows, [MARKS])


def heat_map(found: Hypothesis) -> Figure:
    """The same as a picture; cells where default labels do not beat guessing are grey."""
    models, datasets, grid = found.grid
    across, down = ([clean(name, NAME) for name in names] for names in (datasets, models))
    width = max(3.6, 1.2 + 0.08 * max(map(len, down)) + 0.95 * len(across))
    height = 1.7 + 0.05 * max(map(len, across)) + 0.45 * len(down)
    figure, (axes,) = canvas(found.title, width, height)
    shown = np.array([[math.nan if t is None or t.fails else t.difference for t in row] for row in grid])
    coloured = np.abs(shown[~np.isnan(shown)])
    largest = max([1e-6, *coloured])
    limits = (-largest, largest)
    image = matrix(axes, Table(models, datasets, shown.tolist()), cmap="RdBu", limits=limits, numbers=False)
    for i, row in enumerate(grid):
        for j, test in enumerate(row):
            dark = abs(shown[i, j]) > 0.6 * largest
            axes.text(j, i, _written(test), ha="center", va="center", fontsize=8, color="white" if dark else "black")
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor", "parse_math": False}
    axes.set_xticks(range(len(across)), across, **slanted)
    axes.set_yticks(range(len(down)), down, parse_math=False)
    if len(coloured):
        label = clean(found.name.replace("_", " "), 60).replace("$", r"\$")
        figure.colorbar(image, label=textwrap.fill(label, 30))
    footnotes(figure, [MARKS])
    return figure


def _written(test: Test | None) -> str:
    return UNDEFINED if test is None or math.isnan(test.difference) else str(test)


def _repetitions(cell: Cell) -> int:
    return sum(run.result.get("counts", {}).get("repetitions", 0) for run in cell.runs)


def _at_any_turn(name: str) -> str:
    """The name of a difference at twice its change point, with k for the number, which depends on the dataset."""
    turns = set(re.findall(r"(?:flip|default)_after_(\d+)", name))
    at = re.search(r"_at_(\d+)$", name)
    if len(turns) != 1 or at is None or int(at.group(1)) != 2 * int(min(turns)):
        return name
    return re.sub(r"_after_\d+", "_after_k", name[: at.start()]) + "_at_2k"


def _bounds(cell: Cell, name: str) -> tuple[float, float]:
    """The 95 % interval, as the experiment's table has it."""
    table = cell.result.tables.get("differences")
    if table is None or name not in table.rows or not {"low", "high"} <= set(table.columns):
        return math.nan, math.nan
    row = dict(zip(table.columns, table.values[list(table.rows).index(name)], strict=True))
    return row["low"], row["high"]
