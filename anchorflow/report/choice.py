"""Select runs by their settings: `shots_per_class=5`, `model=gpt2`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from anchorflow.errors import UserError
from anchorflow.report.cells import Cell
from anchorflow.report.collect import Collection, Run
from anchorflow.report.run_settings import settings_of, typed
from anchorflow.results import counted

LISTED = 12
"""The most values in a message."""


def where(found: Collection, wanted: Sequence[str]) -> Collection:
    """The complete runs with these settings, each NAME=VALUE; several values of one name are alternatives.

    UserError for a setting or value that no run has, with the existing names and values.
    """
    if not wanted:
        return found
    values: dict[str, set[str]] = {}
    for each in wanted:
        name, sign, value = each.partition("=")
        if not (name and sign):
            raise UserError(f"{each!r} selects no runs; allowed: NAME=VALUE, such as model=gpt2 or shots_per_class=5.")
        values.setdefault(name, set()).add(value)
    settings = [_settings(run) for run in found.runs]
    for name, of_name in values.items():
        there = _listed({of_run[name][0] for of_run in settings if name in of_run})
        if not there:
            names = ", ".join(dict.fromkeys(known for of_run in settings for known in of_run))
            raise UserError(f"no run has the setting {name}; allowed: {names or 'none, there are no complete runs'}.")
        for value in of_name - {value for of_run in settings for value in of_run.get(name, ())}:
            raise UserError(f"no run has {name}={value}; allowed: {there}.")
    kept = [
        run
        for run, of_run in zip(found.runs, settings, strict=True)
        if all(of_name.intersection(of_run.get(name, ())) for name, of_name in values.items())
    ]
    if not kept:
        raise UserError(f"no run has {' and '.join(wanted)} together.")
    return replace(found, runs=tuple(kept))


def complete(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """The cells with every seed that occurs in their experiment, and a message for each of the others."""
    seeds: dict[str, set[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.experiment, set()).update(run.seed for run in cell.runs)
    kept, left = [], []
    for cell in cells:
        missing = seeds[cell.experiment] - {run.seed for run in cell.runs}
        if missing:
            what = ", ".join([cell.experiment, *cell.place, *filter(None, [typed(cell.settings)])])
            lacks = f"{counted(len(missing), 'seed')} of {len(seeds[cell.experiment])}"
            left.append(f"{what}: left out because it lacks {lacks} ({', '.join(map(str, sorted(missing)))})")
        else:
            kept.append(cell)
    return kept, left


def _settings(run: Run) -> Mapping[str, tuple[str, ...]]:
    """The ways to write each setting, the full one first: a dataset has its name in tables, and the one of its option."""
    named = {"experiment": (run.experiment,), "model": (run.model,), "seed": (str(run.seed),)}
    option = run.result["config"]["dataset"].get("name") or run.dataset
    settings = {name: (value,) for name, value in settings_of(run).items()}
    return {**settings, **named, "dataset": (run.dataset, option)}


def _listed(values: Iterable[str]) -> str:
    known = sorted(values, key=lambda value: (len(value), value))
    known = [repr(value) if ", " in value else value for value in known]
    return ", ".join([*known[:LISTED], *([f"{len(known) - LISTED} more"] if len(known) > LISTED else [])])
