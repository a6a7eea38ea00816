"""Compare sets of runs pairwise: differences with 95 % confidence intervals, paired as closely as possible.

Queries of one seed share their demonstrations, so each seed counts once and intervals are Student's t over seeds.
Repetitions with their own examples count individually.
"""

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from anchorflow.errors import UserError
from anchorflow.report import per_query
from anchorflow.report.choice import where
from anchorflow.report.collect import Collection, Run, collect, problems_of_views
from anchorflow.report.run_settings import varying_settings
from anchorflow.report.tables.overview import ends
from anchorflow.report.tables.sheets import LONG, Row, Sheet, clean, marked, to_csv, to_markdown
from anchorflow.results import counted, of_tests, write_atomically
from anchorflow.results.statistics import Difference, clustered_difference, holm, paired_difference

LETTERS = string.ascii_uppercase
NAME = 60
"""The most characters of a set's name in a column's header."""
P = 10
"""The column of p."""


@dataclass(frozen=True)
class Side:
    """The runs of one set that differ only in their seed; `what` has all their other settings by name."""

    runs: Mapping[int, Run]
    what: Mapping[str, str]


def compare(paths: Sequence[Path], wanted: Sequence[Sequence[str]] = (), csv: Path | None = None) -> str:
    """The differences between sets of runs, each set against the first, as text for the screen.

    A set has the runs below one path, or the runs below all paths with certain settings (`wanted`, NAME=VALUE each).
    UserError for fewer than two sets, a set without complete runs, no counterparts, or a `csv` that cannot be written.
    """
    if len(wanted or paths) < 2:
        raise UserError(
            "there is only one set of runs; allowed: two or more paths, or paths with --where ... --with ..."
        )
    chosen = [(f"{', '.join(each)}", collect(paths), each) for each in wanted] or [
        (str(p), collect([p]), ()) for p in paths
    ]
    for what, found, _ in chosen:
        if not found.runs:
            raise UserError(f"no complete run lies at or below {', '.join(map(str, paths)) if wanted else what}.")
    names, sets = [what for what, *_ in chosen], [where(found, each) for _, found, each in chosen]
    sheet, notes = differences(*sets, names=names)
    if not sheet.rows:
        raise UserError(
            f"no run of {names[0]} has a counterpart in {' or '.join(names[1:])}: they share no experiment."
        )
    if csv is not None:
        try:
            write_atomically(csv, to_csv(sheet))
        except OSError as error:
            raise UserError(f"{csv} cannot be written ({error.strerror}); choose another --csv.") from error
    told = [
        f"{sign}: {name} ({counted(len(s.runs), 'run')})" for sign, name, s in zip(LETTERS, names, sets, strict=False)
    ]
    return "\n".join(
        [*(f"* {marked(clean(line, LONG))}" for line in [", ".join(told), *notes]), "", to_markdown(sheet)]
    )


def differences(*sets: Collection, names: Sequence[str] = LETTERS) -> tuple[Sheet, list[str]]:
    """The table of all sets against the first, and notes on what was compared, what has no counterpart, and problems.

    With two sets, columns have the names of the sets; with more, cells name them.
    """
    rows: list[Row] = []
    notes = []
    for found, name in zip(sets, LETTERS, strict=False):
        notes += [f"{name}, problem: {problem}" for problem in (*found.problems, *problems_of_views(found.runs))]
        notes += [f"{name}, incomplete: {run.path} ({run.reason})" for run in found.incomplete]
        notes += [f"{name}, one run: {merged}" for merged in found.merged]
    for number, other in enumerate(sets[1:], start=1):
        pair = LETTERS[0], LETTERS[number]
        more, said = _two(sets[0], other, pair, [names[0], names[number]] if len(sets) > 2 else None)
        rows += more
        notes += said
    return _sheet(rows, names[:2] if len(sets) == 2 else LETTERS[:2]), list(dict.fromkeys(notes))


def _two(
    a: Collection, b: Collection, letters: tuple[str, str], names: Sequence[str] | None
) -> tuple[list[Row], list[str]]:
    """The rows of two sets, which name the sets if `names` are given, and notes on them."""
    rows: list[Row] = []
    notes = []
    for experiment in dict.fromkeys(run.experiment for run in (*a.runs, *b.runs)):
        sides = _sides([[run for run in found.runs if run.experiment == experiment] for found in (a, b)])
        pairs, compared = _match(*sides)
        if compared:
            notes.append(f"{experiment}: compared by {', '.join(compared)}")
        used: set[Path] = set()
        for one, other in pairs:
            differing, said = _compare(one, other)
            notes += said
            seeds = one.runs.keys() & other.runs.keys()
            used |= {run.path for side in (one, other) for seed, run in side.runs.items() if not seeds or seed in seeds}
            what = [", ".join(f"{name}={side.what[name]}" for name in compared) for side in (one, other)]
            shared = [value for name, value in one.what.items() if name not in compared and value]
            rows += [[experiment, ", ".join(shared), *(names or what), *row] for row in differing]
        for found, letter in ((a, letters[0]), (b, letters[1])):
            alone = [run.path for run in found.runs if run.experiment == experiment and run.path not in used]
            notes += [f"only in {letter}: {path}" for path in alone]
    return rows, notes


def columns(a: str, b: str) -> list[str]:
    """The columns of the table of two sets with these names."""
    first, second = (clean(name, NAME) for name in (a, b))
    return [
        *("experiment", "of both", first, second, "metric", f"of {first}", f"of {second}", f"{second} − {first}"),
        *("low", "high", "p", "p over all", "pairs"),
    ]


def _sheet(rows: Sequence[Row], names: Sequence[str]) -> Sheet:
    """The table with p corrected over all of its rows, and notes on p and the intervals."""
    p = [float(row[P]) for row in rows]  # type: ignore[arg-type]
    tested = sum(not math.isnan(each) for each in p)
    notes = [
        "Queries of a seed may share their demonstrations: with several seeds, the interval is Student's t over seeds; with "
        "one, it is over its queries and holds only for that seed.",
        f"p over all: corrected over the {counted(tested, 'difference')} of this table with a p (Holm).",
    ]
    found = [[*row[: P + 1], each, *row[P + 1 :]] for row, each in zip(rows, holm(p), strict=True)]
    return Sheet(
        "compare", "Differences with 95 % confidence intervals", columns(*names), found, notes if tested else []
    )


def _sides(sets: Sequence[Sequence[Run]]) -> list[list[Side]]:
    """Both sets as sides, distinguished by dataset, model and every setting that differs anywhere."""
    runs = [run for of_set in sets for run in of_set]
    settings = {id(run): found for run, found in zip(runs, varying_settings(runs), strict=True)}
    found = []
    for of_set in sets:
        groups: dict[tuple[tuple[str, str], ...], dict[int, Run]] = {}
        for run in of_set:
            what = {"dataset": run.dataset, "model": run.model, **settings[id(run)]}
            groups.setdefault(tuple(what.items()), {}).setdefault(run.seed, run)
        found.append([Side(of_seeds, dict(what)) for what, of_seeds in groups.items()])
    return found


def _match(a: Sequence[Side], b: Sequence[Side]) -> tuple[list[tuple[Side, Side]], list[str]]:
    """Pairs of sides that agree in everything except what is compared, and the names of the latter: no sides agree in it."""
    pairs = [(one, other) for one in a for other in b]
    compared = []
    for name in dict.fromkeys(name for side in (*a, *b) for name in side.what):
        alike = [(one, other) for one, other in pairs if one.what.get(name) == other.what.get(name)]
        if alike:
            pairs = alike
        elif pairs:
            compared.append(name)
    return pairs, compared


def _compare(one: Side, other: Side) -> tuple[list[Row], list[str]]:
    """The rows, from the metric on, and problems. Paired by unit if the records allow it, else by seed, else unpaired."""
    seeds = [seed for seed in one.runs if seed in other.runs]
    by_unit, problems = _by_unit(one, other, seeds)
    numbers = [{seed: _numbers(run) for seed, run in side.runs.items()} for side in (one, other)]
    shared = next(iter(one.runs.values())).view.pool is not None
    rows: list[Row] = []
    for name in dict.fromkeys(name for of_seed in numbers[0].values() for name in of_seed):
        found = by_unit.get(name)
        if found is None:
            of_a, of_b = ({seed: of[name] for seed, of in side.items() if name in of} for side in numbers)
            if not (of_a and of_b):
                continue
            found = _over_seeds(of_a, of_b, shared)
        apart = found.difference
        rows.append([name, found.first, found.second, apart.mean, apart.low, apart.high, apart.p, found.pairs])
    return rows, problems


class _Found(NamedTuple):
    """The means of both sides, their difference, and what was paired."""

    first: float
    second: float
    difference: Difference
    pairs: str


def _by_unit(one: Side, other: Side, seeds: Sequence[int]) -> tuple[dict[str, _Found], list[str]]:
    """For each metric, the comparison of both sides' scores on the same units."""
    found: list[dict[str, dict[per_query.Unit, float]]] = [{}, {}]
    problems = []
    for seed in seeds:
        runs = one.runs[seed], other.runs[seed]
        if runs[0].dataset != runs[1].dataset or runs[0].result.get("data") != runs[1].result.get("data"):
            return {}, []
        for run, into in zip(runs, found, strict=True):
            try:
                for name, of_units in per_query.scores(run).items():
                    into.setdefault(name, {}).update(of_units)
            except Exception as error:  # records that are damaged, or not in the experiment's format
                problems.append(f"not paired by {run.unit}: the records of {run.path} cannot be used ({error})")
    if problems:
        return {}, problems
    units_of = next(iter(one.runs.values())).units
    paired = {}
    for name in found[0]:
        first, second = found[0][name], found[1].get(name, {})
        units = [each for each in first if each in second]
        if units:
            all_of = max(len(first), len(second))
            count = f"{len(units)} {units_of}" if len(units) == all_of else f"{len(units)} of {all_of} {units_of}"
            paired[name] = _of_units([first[u] for u in units], [second[u] for u in units], units, count, len(seeds))
    return paired, []


def _of_units(
    a: Sequence[float], b: Sequence[float], units: Sequence[per_query.Unit], count: str, seeds: int
) -> _Found:
    """The difference over clusters; for a single cluster (queries after the same demonstrations) over its units."""
    first, second = np.array(a), np.array(b)
    clusters = [unit[0] for unit in units]
    n = len(set(clusters))
    if n == 1:
        test, pairs = paired_difference(second, first), f"{count}, 1 seed"
        return _Found(float(first.mean()), float(second.mean()), test, pairs)
    means = [clustered_difference(of, np.zeros(len(of)), clusters).mean for of in (first, second)]
    own = n == len(units)
    pairs = f"{count}, {counted(seeds, 'seed')}" if own and seeds > 1 else count if own else f"{n} seeds ({count})"
    return _Found(means[0], means[1], clustered_difference(second, first, clusters), pairs)


def _over_seeds(a: Mapping[int, float], b: Mapping[int, float], shared: bool) -> _Found:
    """The difference paired by common seeds, else with Welch's t. No interval if seeds share units (`shared`)."""
    seeds = [seed for seed in a if seed in b]
    if seeds:
        first, second = (np.array([of[seed] for seed in seeds], dtype=float) for of in (a, b))
        found = clustered_difference(second, first, seeds)
        pairs = f"{len(seeds)} seeds" if len(seeds) > 1 else "1 seed, no interval"
    else:
        first, second = (np.array(list(of.values()), dtype=float) for of in (a, b))
        found = _unpaired_difference(second, first)
        pairs = f"none ({len(first)} and {len(second)} seeds)"
    if shared and not math.isnan(found.low):
        found, pairs = Difference(found.mean, *[math.nan] * 4), f"{pairs}, which share repetitions: no interval"
    return _Found(float(first.mean()), float(second.mean()), found, pairs)


def _unpaired_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """`first` minus `second` with Welch's t; no interval if one of them is a single value."""
    mean = float(first.mean() - second.mean())
    if min(len(first), len(second)) < 2:
        return Difference(mean, math.nan, math.nan, math.nan, math.nan)
    from scipy.stats import ttest_ind

    stderr = math.sqrt(first.var(ddof=1) / len(first) + second.var(ddof=1) / len(second))
    if stderr == 0:
        return Difference(mean, 0.0, mean, mean, float(mean == 0))
    test = ttest_ind(first, second, equal_var=False)
    interval = test.confidence_interval(0.95)
    return Difference(mean, stderr, float(interval.low), float(interval.high), float(test.pvalue))


def _numbers(run: Run) -> dict[str, float]:
    """The measured metrics (no settings, tests or constants), and means of curves over thirds of the layers."""
    result = run.numbers
    apart = {*run.settings, *run.view.given, *of_tests(result.metrics)}
    found = {name: value for name, value in result.metrics.items() if name not in apart}
    for name in run.view.thirds:
        if name in result.curves:
            found |= zip((f"{name}, first third", f"{name}, last third"), ends(result.curves[name].values), strict=True)
    return {name: value for name, value in found.items() if not math.isnan(value)}
