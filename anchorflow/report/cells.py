"""Group runs that differ only in their seed into cells, whose result is the mean. Every number comes from files."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anchorflow.report.collect import Run
from anchorflow.report.run_settings import EXPERIMENT, MODEL, apart, names_in, settings_of, typed, varying_settings
from anchorflow.report.tables.sheets import Measured
from anchorflow.report.view import View, asking, view_of
from anchorflow.results import Curve, Result, Table, of_tests
from anchorflow.results.metrics import UNDEFINED_R, contribution_of_mean
from anchorflow.results.statistics import mean_and_stderr


@dataclass(frozen=True)
class Cell:
    """A mean over seeds. `settings` are those, other than model, dataset and seed, that differ within the experiment's runs.

    Standard errors of `result` are over `over`: seeds, or units (queries) if there is a single seed or the experiment's view
    pools the units of all seeds. `known` counts the seeds in which a metric is defined.
    """

    experiment: str
    model: str
    dataset: str
    settings: Mapping[str, str]
    runs: tuple[Run, ...]
    result: Result
    over: str
    known: Mapping[str, int]

    @property
    def place(self) -> tuple[str, str]:
        """Model and dataset."""
        return self.model, self.dataset

    @property
    def condition(self) -> dict[str, Any]:
        """The experiment's settings that differ from its defaults, as configured."""
        return min((run.condition for run in self.runs), key=lambda found: (len(found), str(found)), default={})

    @property
    def view(self) -> View:
        """The view of its experiment."""
        return self.runs[0].view if self.runs else view_of(self.experiment)

    @property
    def decided(self) -> set[str]:
        """The metrics that are settings, decided when the runs ran."""
        return {name for run in self.runs for name in run.settings}

    def head(self, names: Sequence[str]) -> list[str]:
        """The first columns of a table's row: model, dataset, and the settings with these names."""
        return [*self.place, *(self.settings.get(name, "") for name in names)]

    def measured(self, metric: str) -> Measured:
        """A metric with its standard error, and the number of seeds in which it is defined, if not all."""
        aside = of_seeds(self.known.get(metric, 0), len(self.runs)) if self.over == "seeds" else ""
        if not aside and self._seeds_agree(metric):
            aside = f"over {self.runs[0].units}"
        return Measured(self.result.metrics[metric], self.result.stderr.get(metric, math.nan), aside)

    def _seeds_agree(self, metric: str) -> bool:
        """Whether all seeds have one value of a metric, so that its error is the units' within them (see `mean`)."""
        known = [value for run in self.runs if (value := run.result["metrics"].get(metric)) is not None]
        error = self.result.stderr.get(metric, math.nan)
        return self.over == "seeds" and len(known) > 1 and len(set(known)) == 1 and not math.isnan(error)


def setting_names(cells: Sequence[Cell]) -> list[str]:
    """The settings that differ between any of them."""
    return names_in(cell.settings for cell in cells)


def of_seeds(known: int, seeds: int) -> str:
    """A remark if a number is undefined in some seeds."""
    return f"{known} of {seeds} seeds" if 0 < known < seeds else ""


def into_cells(runs: Sequence[Run]) -> tuple[list[Cell], list[str]]:
    """The cells in the runs' order, and one line for each problem."""
    of_experiment: dict[str, list[Run]] = {}
    for run in runs:
        of_experiment.setdefault(run.experiment, []).append(run)
    cells, problems = [], []
    for together in of_experiment.values():
        groups: dict[tuple[Any, ...], list[Run]] = {}
        varying = varying_settings(together)
        for run, settings in zip(together, varying, strict=True):
            groups.setdefault((run.model, run.dataset, *settings.items()), []).append(run)
        for members in groups.values():
            first, settings = members[0], varying[together.index(members[0])]
            found, over, problem = _result(members)
            if problem:
                problems.append(problem)
            seen: dict[int, Run] = {}
            for run in members:
                if (other := seen.setdefault(run.seed, run)) is not run:
                    problems.append(f"seed {run.seed} counts twice: {other.path} and {run.path} differ in no setting")
            known = {
                name: sum(run.result["metrics"].get(name) is not None for run in members) for name in found.metrics
            }
            found = asking(first.experiment, found)
            names = first.experiment, first.model, first.dataset
            cells.append(Cell(*names, settings, tuple(members), found, over, known))
    return cells, problems


def planes(cells: Sequence[Cell]) -> list[tuple[dict[str, Any], list[Cell]]]:
    """The cells of one experiment by condition, in a canonical order: a plane does not depend on other cells."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(json.dumps(cell.condition, sort_keys=True), []).append(cell)
    return [(together[0].condition, sorted(together, key=_order)) for together in found.values()]


def by_place(cells: Sequence[Cell]) -> dict[tuple[str, str], list[tuple[str, Cell]]]:
    """The cells of each model and dataset, each with the settings in which several cells differ (weights, precision,
    template).
    """
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.place, []).append(cell)
    told = {}
    for place, together in found.items():
        every = [_settings(cell) for cell in together]
        told[place] = [(typed(apart(own, every)), cell) for own, cell in zip(every, together, strict=True)]
    return told


def model_of(cell: Cell) -> dict[str, str]:
    """What identifies its model besides the name: weights, precision, settings."""
    found = [{**MODEL.written(run), "dtype": EXPERIMENT.written(run)["dtype"]} for run in cell.runs[:1]]
    return dict(*found)


def _order(cell: Cell) -> tuple[Any, ...]:
    return (*cell.place, *sorted(_settings(cell).items()))


def _settings(cell: Cell) -> dict[str, str]:
    """Everything that distinguishes a cell from others with the same model and dataset."""
    return settings_of(cell.runs[0]) if cell.runs else {}


def mean(results: Sequence[Result], seeds: Sequence[int], view: View | None = None) -> Result:
    """Means with standard errors over the results; values that are undefined (nan) in some are averaged over the others.

    Measures of certainty (a p, a bound) have no mean and are left out. If all seeds agree, so that their spread is not
    visible, the error is that of the units within them.
    """
    if len(results) == 1:
        return results[0]
    metrics: dict[str, float] = {}
    stderr = {}
    names = names_in(result.metrics for result in results)
    for name in (name for name in names if name not in of_tests(names)):
        found = [result.metrics.get(name, math.nan) for result in results]
        within = [result.stderr.get(name, math.nan) for result in results]
        values, errors = over_seeds([[each] for each in found])
        whole = len(set(found)) == 1 and isinstance(found[0], int)  # a count or a setting, not a measurement
        metrics[name] = found[0] if whole else float(values[0])
        stderr[name] = math.nan if whole else float(errors[0] or _within(within))
    curves = {}
    for name in names_in(result.curves for result in results):
        having = [result.curves[name] for result in results if name in result.curves]
        at = sorted(set.intersection(*(set(curve.at) for curve in having)))
        if at:
            values, errors = over_seeds([_at(curve, at) for curve in having])
            inside = zip(*(_at(curve, at, curve.stderr or [math.nan] * len(curve.at)) for curve in having), strict=True)
            known = [float(error or _within(within)) for error, within in zip(errors, inside, strict=True)]
            curves[name] = Curve(having[0].x, at, values.tolist(), known)
    tables = {
        name: _mean_table([result.tables[name] for result in results if name in result.tables])
        for name in names_in(result.tables for result in results)
    }
    said: dict[str, list[int]] = {}
    for seed, result in zip(seeds, results, strict=True):
        for note in result.notes:
            said.setdefault(note, []).append(seed)
    notes = [
        note if len(where) == len(results) else f"seed {', '.join(map(str, where))}: {note}"
        for note, where in said.items()
    ]
    for name, of in (view.contributions if view else {}).items():
        if name in curves and of in curves:
            curves[name], more = _contribution(results, name, of, curves[of].at)
            notes += more
    return Result(metrics, stderr, curves, tables, notes)


def _within(stderr: Sequence[float]) -> float:
    """The standard error of a mean of independent numbers with these errors."""
    return math.sqrt(sum(error**2 for error in stderr)) / len(stderr)


def _contribution(results: Sequence[Result], name: str, of: str, at: Sequence[float]) -> tuple[Curve, list[str]]:
    """The share of layers 1 to l in the rise of the results' mean curve, and a note if it is undefined."""
    known = [result for result in results if of in result.curves and not np.isnan(_at(result.curves[of], at)).any()]
    if len(known) < 2:
        values = _at(known[0].curves[name], at) if known else [math.nan] * len(at)
        return Curve("layer", at, values, [math.nan] * len(at)), []
    areas = np.array([_at(result.curves[of], at) for result in known])
    values, errors, stderr = contribution_of_mean(areas)
    notes = [UNDEFINED_R.format(float((areas.mean(axis=0) - 0.5).sum()), stderr)] if math.isnan(values[-1]) else []
    return Curve("layer", at, values, errors), notes


def over_seeds(values: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the defined values over the first axis, and its standard error (nan for a single value)."""
    columns = [column[~np.isnan(column)] for column in np.array(values, dtype=float).T]
    found = [mean_and_stderr(column[:, None]) if len(column) else ([math.nan], [math.nan]) for column in columns]
    return np.array([float(middle[0]) for middle, _ in found]), np.array([float(error[0]) for _, error in found])


def _at(curve: Curve, places: Sequence[float], values: Sequence[float] | None = None) -> list[float]:
    found = dict(zip(curve.at, curve.values if values is None else values, strict=True))
    return [found[at] for at in places]


def _mean_table(tables: Sequence[Table]) -> Table:
    """The mean table, matched by the names of rows and columns, whatever their order."""
    rows, columns = (names_in(dict.fromkeys(getattr(t, side)) for t in tables) for side in ("rows", "columns"))
    found = []
    for table in tables:
        of = {
            (row, column): value
            for row, values in zip(table.rows, table.values, strict=True)
            for column, value in zip(table.columns, values, strict=True)
        }
        found.append([of.get((row, column), math.nan) for row in rows for column in columns])
    values, _ = over_seeds(found)
    return Table(rows, columns, values.reshape(len(rows), len(columns)).tolist())


def _result(runs: Sequence[Run]) -> tuple[Result, str, str | None]:
    """The cell's numbers, what their standard errors are over, and a problem if there is one."""
    found, seeds, pool = [run.numbers for run in runs], [run.seed for run in runs], runs[0].view.pool
    units = runs[0].units
    if len(runs) == 1:
        return found[0], units, None
    if pool is None:
        return mean(found, seeds, runs[0].view), "seeds", None
    try:
        return pool(runs), units, None
    except Exception as error:  # damaged records, or a user's experiment that cannot pool them
        return found[0], units, f"{runs[0].path} represents its cell: {units} cannot be pooled ({error})"
