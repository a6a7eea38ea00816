"""Null hypotheses: which tests form a family, and their tables and heat maps.

A family of tests, corrected together, is one hypothesis (two regimes and a measure) over models and datasets. The number
of examples may differ between datasets within a family. A family has one run per model and dataset; a run with other
settings (another prompt, a pilot on fewer examples) belongs to a separate family that names them.
"""

import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from anchorflow.experiments.contrasts import SECOND_HALF
from anchorflow.report.cells import Cell, setting_names
from anchorflow.report.drawing import canvas, footnotes, matrix
from anchorflow.report.figures import named
from anchorflow.report.run_settings import typed
from anchorflow.report.tables.sheets import LONG, UNDEFINED, Row, Sheet, clean
from anchorflow.report.view import Drawing
from anchorflow.results import Result, Table
from anchorflow.results.statistics import holm

DIFFERENCE = re.compile(r".+_minus_.+")
OF_OTHER_TESTS = ("regimes", "repetitions")
"""Settings in which runs of the same test may differ."""
SIZES = ("n_demonstrations", "at_most", "too_long", *OF_OTHER_TESTS)
"""Settings in which the runs of one family may differ."""
AT_MAX = ("default_minus_guessing", "default_minus_guessing_accuracy")
ABOVE_GUESSING = tuple(f"{name}_{SECOND_HALF}" for name in AT_MAX)
NAME = 30
"""The most characters of a model's or dataset's name at a heat map."""
LEVEL = 0.05
T = ("low", "high")
BOOTSTRAP = ("bootstrap low", "bootstrap high", "bootstrap p")
MARKS = (
    "* p < 0.05, corrected over the cells of this table (Holm). In brackets: neither the accuracy nor the log-likelihood of "
    "the default labels beats guessing (p < 0.05, mean over the second half of the curve)."
)


class Test(NamedTuple):
    """A cell's test of a null hypothesis. `name` is the cell's name of the difference, which includes the change point."""

    cell: Cell
    name: str
    corrected: float

    @property
    def difference(self) -> float:
        """The mean of the paired differences."""
        return self.cell.result.metrics[self.name]

    @property
    def p(self) -> float:
        """The uncorrected p of this test; nan without any."""
        return self.cell.result.metrics.get(f"{self.name}_p", math.nan)

    @property
    def fails(self) -> bool:
        """Whether neither accuracy nor log-likelihood of the default labels beats guessing over the second half of the curve.

        Then the labels were not learned, and a difference is meaningless. Results of older versions use one number of
        examples.
        """
        metrics = self.cell.result.metrics
        tested = [name for name in ABOVE_GUESSING if name in metrics] or [name for name in AT_MAX if name in metrics]
        known = [name for name in tested if not math.isnan(metrics[name])]
        beats = [name for name in known if metrics[name] > 0 and not metrics.get(f"{name}_p", math.nan) >= LEVEL]
        return bool(known) and not beats

    def __str__(self) -> str:
        """The test in a table: * if the null hypothesis is rejected at 5 % over all cells, brackets if default labels fail."""
        text = f"{self.difference:+.2f}{'*' if self.corrected < LEVEL else ''}"
        return f"({text})" if self.fails else text


@dataclass(frozen=True)
class Hypothesis:
    """One null hypothesis over models and datasets, with the experiment's settings that differ from its defaults."""

    name: str
    settings: Mapping[str, str]
    tests: Sequence[Test]

    @property
    def file(self) -> str:
        """The file name of its table and heat map."""
        return named(self.name, self.settings)

    @property
    def title(self) -> str:
        """For people."""
        name = self.name.replace(f"_{SECOND_HALF}", ", second half").replace("_", " ")
        return clean(", ".join([name, *filter(None, [typed(self.settings)])]), LONG)

    @property
    def of_what(self) -> str:
        """The measure of the difference, and the number of examples."""
        measure = next((name for name in ("accuracy", "entropy") if f"_{name}" in self.name), "log-likelihood")
        turn = re.search(r"_at_(2k|\d+)", self.name)
        late = self.name.endswith(SECOND_HALF)
        where = (
            "over the second half of the examples"
            if late
            else f"at {turn[1]} examples"
            if turn
            else "after all examples"
        )
        return f"difference of {measure}, {where}"

    @property
    def sizes(self) -> list[str]:
        """A sentence on the numbers of examples and repetitions of its tests."""
        found = {}
        for what, of in (("examples", _examples), ("repetitions", _repetitions)):
            numbers = sorted({of(test.cell) for test in self.tests} - {0})
            if numbers:
                found[what] = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
        return [f"{'; '.join(f'{what}: {text}' for what, text in found.items())}."] if found else []

    @property
    def grid(self) -> tuple[list[str], list[str], list[list[Test | None]]]:
        """Models, datasets, and tests [model][dataset], None where there is no run."""
        models, datasets = (list(dict.fromkeys(test.cell.place[i] for test in self.tests)) for i in (0, 1))
        of = {test.cell.place: test for test in self.tests}
        return models, datasets, [[of.get((model, dataset)) for dataset in datasets] for model in models]


def differing(result: Result) -> list[str]:
    """The names of paired differences that have a p."""
    return [name for name in result.metrics if DIFFERENCE.fullmatch(name) and f"{name}_p" in result.metrics]


def hypotheses(cells: Sequence[Cell]) -> list[Hypothesis]:
    """The null hypotheses of these cells, whatever other regimes their runs had; p is corrected over their cells (Holm).

    A test that several runs made with the same settings counts once, from the run with the most repetitions. Among runs of
    one model and dataset with other sizes, the one with the most data is in the first family, the next in the second.
    """
    members: dict[str, list[tuple[Cell, str]]] = {}
    for cell in cells:
        names = differing(cell.result)
        general = [_at_any_turn(name) for name in names]
        for name, shared in zip(names, general, strict=True):
            members.setdefault(shared if general.count(shared) == 1 else name, []).append((cell, name))
    conditions = {id(cell): _condition(cell) for cell in cells}
    found = []
    for name, having in members.items():
        families: dict[tuple[Any, ...], list[_Member]] = {}
        for of_place in _by_place(having, conditions).values():
            ranked = _each_once(sorted(of_place, key=lambda one: -_data(one[0])))
            for rank, (cell, own) in enumerate(ranked):
                family = families.setdefault((tuple(conditions[id(cell)].items()), rank), [])
                family.append(_Member(cell, own, _apart(cell, own, *ranked[0])))
        for (condition, _), family in sorted(families.items(), key=lambda one: one[0]):
            p = [member.cell.result.metrics.get(f"{member.name}_p", math.nan) for member in family]
            tests = [Test(member.cell, member.name, each) for member, each in zip(family, holm(p), strict=True)]
            found.append(Hypothesis(name, {**dict(condition), **_together([each.apart for each in family])}, tests))
    return found


class _Member(NamedTuple):
    """A cell's test in a family, and its settings that differ from the first family of its model and dataset."""

    cell: Cell
    name: str
    apart: Mapping[str, str]


def _condition(cell: Cell) -> dict[str, str]:
    """The settings that must agree within a family, without the experiment's defaults."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in cell.condition.items()
        if key not in SIZES
    }


def _by_place(
    having: Sequence[tuple[Cell, str]], conditions: Mapping[int, Mapping[str, str]]
) -> dict[tuple[Any, ...], list[tuple[Cell, str]]]:
    """The runs of one model and dataset with the same conditions."""
    found: dict[tuple[Any, ...], list[tuple[Cell, str]]] = {}
    for cell, own in having:
        found.setdefault((*cell.place, *conditions[id(cell)].items()), []).append((cell, own))
    return found


def _each_once(having: Sequence[tuple[Cell, str]]) -> list[tuple[Cell, str]]:
    """The first of several runs of the same test with the same settings."""
    found: dict[tuple[Any, ...], tuple[Cell, str]] = {}
    for cell, own in having:
        kept = (item for item in cell.settings.items() if item[0] not in OF_OTHER_TESTS)
        found.setdefault((own, *kept), (cell, own))
    return list(found.values())


def _data(cell: Cell) -> int:
    """The amount of data in a cell's tests: predictions per regime."""
    return _repetitions(cell) * (_examples(cell) or 1)


def _examples(cell: Cell) -> int:
    return int(cell.runs[0].settings.get("n_demonstrations") or 0)


def _apart(cell: Cell, name: str, first: Cell, its_name: str) -> dict[str, str]:
    found = {
        setting: value
        for setting, value in cell.settings.items()
        if value != first.settings.get(setting) and setting not in OF_OTHER_TESTS
    }
    return {**found, **({"test": name} if name != its_name else {})}


def _together(apart: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """For each setting, its value or all of its values."""
    names = dict.fromkeys(name for each in apart for name in each)
    return {name: "/".join(dict.fromkeys(each[name] for each in apart if name in each)) for name in names}


def sheets(cells: Sequence[Cell]) -> list[Sheet]:
    """The table of all differences, and one for each null hypothesis."""
    found = hypotheses(cells)
    every = differences(found, cells)
    return [*([] if every is None else [every]), *map(sheet, _without_guessing(found))]


def heat_maps(cells: Sequence[Cell]) -> list[Drawing]:
    """A picture for each null hypothesis."""
    return [Drawing(one.file, one.title, partial(heat_map, one)) for one in _without_guessing(hypotheses(cells))]


def _without_guessing(found: Sequence[Hypothesis]) -> list[Hypothesis]:
    """Leave out the tests against guessing, which only determine the brackets of the others."""
    return [one for one in found if not one.name.startswith("default_minus_guessing")]


def differences(found: Sequence[Hypothesis], cells: Sequence[Cell]) -> Sheet | None:
    """All paired differences with 95 % intervals, ordered by hypothesis; None without any.

    `p` is uncorrected, `p over cells` is corrected over the models and datasets of its hypothesis; the bootstrap is over the
    same repetitions.
    """
    names = setting_names(cells)
    rows: list[Row] = []
    for test in (test for hypothesis in found for test in hypothesis.tests):
        low_and_high, drawn = (_bounds(test.cell, test.name, columns) for columns in (T, BOOTSTRAP))
        what: Row = [*test.cell.head(names), test.name, test.cell.measured(test.name)]
        rows.append([*what, *low_and_high, test.p, test.corrected, *drawn])
    columns = ["model", "dataset", *names, "difference", "mean", *T, "p", "p over cells", *BOOTSTRAP]
    return Sheet("differences", "Paired differences with 95 % intervals", columns, rows) if rows else None


def sheet(found: Hypothesis) -> Sheet:
    """The table of a hypothesis, with models down and datasets across."""
    models, datasets, grid = found.grid
    rows = [[model, *map(_written, row)] for model, row in zip(models, grid, strict=True)]
    return Sheet(found.file, found.title, ["model", *datasets], rows, [MARKS])


def heat_map(found: Hypothesis) -> Figure:
    """The same as an image, with one colour scale; cells where default labels do not beat guessing are hatched."""
    models, datasets, grid = found.grid
    across, down = ([clean(name, NAME) for name in names] for names in (datasets, models))
    width = max(3.6, 1.2 + 0.08 * max(map(len, down)) + 0.95 * len(across))
    height = 1.7 + 0.05 * max(map(len, across)) + 0.45 * len(down)
    figure, (axes,) = canvas(found.title, width, height)
    shown = np.array([[math.nan if t is None else t.difference for t in row] for row in grid])
    coloured = np.abs(shown[~np.isnan(shown)])
    largest = max([1e-6, *coloured])
    limits = (-largest, largest)
    image = matrix(axes, Table(models, datasets, shown.tolist()), cmap="RdBu", limits=limits, numbers=False)
    for i, row in enumerate(grid):
        for j, test in enumerate(row):
            if test is not None and test.fails:
                axes.add_patch(
                    Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", edgecolor="0.55", linewidth=0)
                )
            dark = abs(shown[i, j]) > 0.6 * largest
            axes.text(j, i, _written(test), ha="center", va="center", fontsize=8, color="white" if dark else "black")
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor", "parse_math": False}
    axes.set_xticks(range(len(across)), across, **slanted)
    axes.set_yticks(range(len(down)), down, parse_math=False)
    if len(coloured):
        figure.colorbar(image, label=textwrap.fill(clean(found.of_what, LONG).replace("$", r"\$"), 30))
    hatched = ["Cells in brackets are hatched."] if any(test.fails for test in found.tests) else []
    footnotes(figure, [MARKS, *hatched, *found.sizes])
    return figure


def _written(test: Test | None) -> str:
    return UNDEFINED if test is None or math.isnan(test.difference) else str(test)


def _repetitions(cell: Cell) -> int:
    return sum(run.result.get("counts", {}).get("repetitions", 0) for run in cell.runs)


def _at_any_turn(name: str) -> str:
    """The name of a difference at twice its change point, with k instead of the number, which depends on the dataset."""
    turns = set(re.findall(r"(?:flip|default)_after_(\d+)", name))
    at = re.search(r"_at_(\d+)$", name)
    if len(turns) != 1 or at is None or int(at.group(1)) != 2 * int(min(turns)):
        return name
    return re.sub(r"_after_\d+", "_after_k", name[: at.start()]) + "_at_2k"


def _bounds(cell: Cell, name: str, columns: Sequence[str]) -> list[float]:
    """The ends of 95 % intervals in the experiment's table."""
    table = cell.result.tables.get("differences")
    if table is None or name not in table.rows:
        return [math.nan] * len(columns)
    row = dict(zip(table.columns, table.values[list(table.rows).index(name)], strict=True))
    return [row.get(column.replace(" ", "_"), math.nan) for column in columns]
