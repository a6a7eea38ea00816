"""Collect runs from disk: complete ones with their numbers, others with the reason. Only reads."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from anchorflow.errors import UserError
from anchorflow.report.view import View, view_of
from anchorflow.results import SCHEMA, Record, Result, runs_below
from anchorflow.settings import defaults_of, locate

UNITS = {"queries": "query", "repetitions": "repetition"}
"""For results of older versions: the key of a record with its number, by what is counted."""
NEAR = 1e-3
"""The relative difference that numbers of one identity may have: batch sizes and processors differ."""
REASON = 200
"""The most characters of a reason to show."""
TOO_LONG = "refuse"
"""The default treatment of prompts that are too long."""
WITHOUT_NUMBERS = ("_target_", "shards", "keep_examples")
"""Keys of an experiment's configuration that change no number, for results of older versions, which do not say so."""


@dataclass(frozen=True)
class Run:
    """A complete run: `result` is the validated content of its result.json."""

    path: Path
    experiment: str
    model: str
    dataset: str
    seed: int
    identity: str
    result: Mapping[str, Any]

    @property
    def view(self) -> View:
        """The view of its experiment."""
        target = self.result["config"]["experiment"].get("_target_")
        return view_of(self.experiment, target if isinstance(target, str) else None)

    @property
    def settings(self) -> dict[str, Any]:
        """The experiment's settings that change a number, and the `version` of its code.

        A metric with the name of a setting was decided when the run ran (as many demonstrations as fit) and replaces the
        setting.
        """
        decided = {key: self.result["metrics"].get(key) for key in self._configured}
        return {**self._configured, **{key: value for key, value in decided.items() if value is not None}}

    @property
    def condition(self) -> dict[str, Any]:
        """The experiment's settings as configured, without defaults of its class.

        They describe a run in the names of figures and do not depend on other runs.
        """
        found = {**self._configured, "too_long": self.result["config"].get("too_long", TOO_LONG)}
        defaults: dict[str, Any] = {"too_long": TOO_LONG, "version": "1"}
        try:
            target = locate(self.result["config"]["experiment"].get("_target_"), "experiment")
        except (UserError, SystemExit):  # an experiment of another version, or of another project
            pass
        else:
            defaults |= {"version": getattr(target, "version", "1"), **defaults_of(target)}
        return {name: value for name, value in found.items() if name not in defaults or value != defaults[name]}

    @property
    def _configured(self) -> dict[str, Any]:
        counted = self.result.get("identity_of", {}).get("experiment")
        if counted is None:
            config = self.result["config"]["experiment"]
            counted = {key: value for key, value in config.items() if key not in WITHOUT_NUMBERS}
        return {"version": "1", **{key: value for key, value in counted.items() if key != "_target_"}}

    @property
    def units(self) -> str:
        """The name of its units in its counts ("queries")."""
        return next((name for name in self.result.get("counts", {}) if name != "skipped"), "queries")

    @property
    def unit(self) -> str:
        """The key of a record with the number of its unit ("query")."""
        return self.result.get("unit") or UNITS.get(self.units, "query")

    @cached_property
    def numbers(self) -> Result:
        """Metrics, curves and tables; undefined values are nan."""
        return Result.from_json(self.result)

    def records(self) -> Iterator[Record]:
        """Iterate over the records, one per unit, without those of skipped units.

        UserError for an unreadable file, and for a damaged or truncated line when the iteration reaches it.
        """
        path = self.path / "records.jsonl"
        key = self.unit
        seen = set()
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    try:
                        record = json.loads(line)
                        new, skipped = record[key] not in seen, "skipped" in record
                    except (ValueError, KeyError, TypeError, RecursionError) as error:
                        raise UserError(f"{path}, line {number} is damaged ({_first_line(error)}).") from error
                    seen.add(record[key])
                    if new and not skipped:
                        yield record
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}).") from error


@dataclass(frozen=True)
class Incomplete:
    """A run directory without a result, and why (one line)."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Collection:
    """The runs below some paths. `problems` has a line for each run that is left out or looks wrong, `merged` one for each set
    of directories that are one run.
    """

    runs: tuple[Run, ...]
    incomplete: tuple[Incomplete, ...] = ()
    problems: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()


def collect(paths: Sequence[Path]) -> Collection:
    """Every run at or below the paths, ordered by experiment, model, dataset and seed.

    Runs with the same identity are one run, which appears once under each of its names (of its model and dataset), and so in
    each of its cells. If their numbers differ, all are left out. UserError for a path that does not exist.
    """
    runs: list[Run] = []
    incomplete: list[Incomplete] = []
    problems = [f"{path}: there is no run at or below it" for path in paths if not runs_below([path])]
    for folder in runs_below(paths):
        if not (folder / "result.json").exists():
            incomplete.append(Incomplete(folder, _why(folder)))
            continue
        try:
            runs.append(_read(folder))
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{folder / 'result.json'} is left out: {_first_line(error)}")
    kept, differing, merged = _each_once(runs)
    kept.sort(key=lambda run: (run.experiment, run.model, run.dataset, run.seed, str(run.path)))
    return Collection(tuple(kept), tuple(incomplete), (*problems, *differing), tuple(merged))


def problems_of_views(runs: Sequence[Run]) -> list[str]:
    """A message for each view that cannot be loaded."""
    return list(dict.fromkeys(run.view.problem for run in runs if run.view.problem))


@dataclass(frozen=True)
class _Curve:
    x: str
    at: Annotated[list[FiniteFloat], Field(min_length=1)]
    values: list[FiniteFloat | None]
    stderr: list[FiniteFloat | None] | None = None


@dataclass(frozen=True)
class _Table:
    rows: list[str]
    columns: list[str]
    values: list[list[FiniteFloat | None]]


@dataclass(frozen=True)
class _Named:
    name: str


@dataclass(frozen=True)
class _Config:
    model: _Named
    dataset: _Named
    experiment: dict[str, Any]


@dataclass(frozen=True)
class _Counted:
    experiment: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Written:
    """The required fields of a result.json; it may have more."""

    experiment: str
    identity: str
    seed: int
    config: _Config
    metrics: dict[str, FiniteFloat | None]
    identity_of: _Counted = field(default_factory=_Counted)
    unit: str | None = None
    stderr: dict[str, FiniteFloat | None] = field(default_factory=dict)
    curves: dict[str, _Curve] = field(default_factory=dict)
    tables: dict[str, _Table] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


_SHAPE = TypeAdapter(_Written)


def _read(folder: Path) -> Run:
    """The complete run in `folder`; ValueError for a result that is damaged or of another schema."""
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    if found.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {found.get('schema')!r}, this version reads {SCHEMA}")
    try:
        checked = _SHAPE.validate_python(found)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    shown = checked.data.get("shown")  # with the content of its source: sst2, phrases (StaICC)
    dataset = shown if isinstance(shown, str) else checked.config.dataset.name
    names = (checked.experiment, checked.config.model.name, dataset)
    run = Run(folder, *names, checked.seed, checked.identity, found)
    _ = run.numbers  # find mismatched lengths now, not when they are drawn
    return run


def _each_once(runs: Sequence[Run]) -> tuple[list[Run], list[str], list[str]]:
    """For each identity, the first run of each name (none if numbers differ); messages on differing and on identical runs."""
    of_identity: dict[str, list[Run]] = {}
    for run in runs:
        of_identity.setdefault(run.identity, []).append(run)
    kept: list[Run] = []
    problems, merged = [], []
    for identity, twins in of_identity.items():
        differing = {str(run.path): name for run in twins[1:] if (name := _first_difference(twins[0], run))}
        if not differing:
            names = {(run.experiment, run.model, run.dataset): run for run in reversed(twins)}
            kept += names.values()
            if len(twins) > 1:
                merged.append(_one_run(twins, names))
            continue
        what = "; ".join(f"{name} in {path}" for path, name in differing.items())
        problems.append(
            f"runs with the identity {identity} and different numbers are left out: {twins[0].path} differs from {what}"
        )
    return kept, problems, merged


def _one_run(twins: Sequence[Run], names: Iterable[tuple[str, ...]]) -> str:
    paths = " and ".join(str(run.path) for run in twins)
    called = " and ".join(", ".join(name) for name in sorted(names))
    if len({*names}) == 1:
        return f"{paths} are one run (identity {twins[0].identity}), counted once"
    return f"{paths} are one run (identity {twins[0].identity}) under several names, counted once under each: {called}"


def _first_difference(first: Run, second: Run) -> str | None:
    """The name of a metric or curve that differs, except for timings."""
    one, other = (_series(run) for run in (first, second))
    for name in [*one, *(name for name in other if name not in one)]:
        if name not in one or name not in other or len(one[name]) != len(other[name]):
            return name
        if not all(map(_near, one[name], other[name])):
            return name
    return None


def _series(run: Run) -> dict[str, list[float | None]]:
    metrics, curves, timed = run.result["metrics"], run.result.get("curves", {}), run.view.timed
    found = {name: [value] for name, value in metrics.items() if name.rpartition("/")[2] not in timed}
    return {**found, **{f"curve {name}": curve["values"] for name, curve in curves.items()}}


def _near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=NEAR, abs_tol=1e-9)


def _why(folder: Path) -> str:
    """The reason in status.json why a run has no result."""
    try:
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        said = [str(status["state"])]
        progress = status.get("progress") or {}
        if progress.get("total"):
            said.append(f"{progress['done']} of {progress['total']}")
        if status.get("error"):
            said.append(str(status["error"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"status.json is damaged ({_first_line(error)})"
    return _first_line(", ".join(said))


def _first_line(what: object) -> str:
    """The first line, shortened."""
    line = next(iter(str(what).splitlines()), "") or type(what).__name__
    return line if len(line) <= REASON else line[: REASON - 1] + "…"
