"""Runs as they lie on disk: the complete ones with their numbers, the others by name and reason. Reads, never writes."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from anchorflow.errors import UserError
from anchorflow.experiments.compression import TIMED
from anchorflow.results import SCHEMA, Record, Result, runs_below

NEAR = 1e-3
"""Numbers of one identity may differ by this share: batches of other sizes, other processors."""
REASON = 200
"""Characters of a reason that are shown."""


@dataclass(frozen=True)
class Run:
    """A complete run: `result` is the content of its result.json, checked."""

    path: Path
    experiment: str
    model: str
    dataset: str
    seed: int
    identity: str
    result: Mapping[str, Any]

    def numbers(self) -> Result:
        """Metrics, curves and tables; nan for what is undefined."""
        return Result.from_json(self.result)

    def records(self) -> Iterator[Record]:
        """The records one after the other, each unit once, those of skipped units left out.

        UserError for a file that cannot be read, and for a line that is damaged or cut off, when the iteration gets there.
        """
        path = self.path / "records.jsonl"
        key = "repetition" if self.experiment == "label_relationships" else "query"
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
    """What lies below some paths. `problems` name what was left out or looks wrong, one line each."""

    runs: tuple[Run, ...]
    incomplete: tuple[Incomplete, ...] = ()
    problems: tuple[str, ...] = ()


def collect(paths: Sequence[Path]) -> Collection:
    """Every run at or below the paths: each identity once, in the order of experiment, model, dataset and seed.

    UserError for a path that is not there. Runs of one identity whose numbers differ are all left out.
    """
    runs: list[Run] = []
    incomplete: list[Incomplete] = []
    problems = [f"{path}: no run lies at or below it" for path in paths if not runs_below([path])]
    for folder in runs_below(paths):
        if not (folder / "result.json").exists():
            incomplete.append(Incomplete(folder, _why(folder)))
            continue
        try:
            runs.append(_read(folder))
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{folder / 'result.json'} is left out: {_first_line(error)}")
    kept, twins = _each_once(runs)
    kept.sort(key=lambda run: (run.experiment, run.model, run.dataset, run.seed, str(run.path)))
    return Collection(tuple(kept), tuple(incomplete), (*problems, *twins))


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
class _Written:
    """What must be in a result.json; more may be there."""

    experiment: str
    identity: str
    seed: int
    config: _Config
    metrics: dict[str, FiniteFloat | None]
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
        raise ValueError("it is not an object of JSON")
    if found.get("schema") != SCHEMA:
        raise ValueError(f"its schema is {found.get('schema')!r}, this version reads {SCHEMA}")
    try:
        checked = _SHAPE.validate_python(found)
    except ValidationError as error:
        problem = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    Result.from_json(found)  # lengths that do not fit are found now, not when they are drawn
    names = (checked.experiment, checked.config.model.name, checked.config.dataset.name)
    return Run(folder, *names, checked.seed, checked.identity, found)


def _each_once(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Of copies the first; none of runs that share an identity and not their numbers, which are named."""
    of_identity: dict[str, list[Run]] = {}
    for run in runs:
        of_identity.setdefault(run.identity, []).append(run)
    kept, problems = [], []
    for identity, twins in of_identity.items():
        differing = {str(run.path): name for run in twins[1:] if (name := _first_difference(twins[0], run))}
        if not differing:
            kept.append(twins[0])
            continue
        what = "; ".join(f"{name} in {path}" for path, name in differing.items())
        problems.append(
            f"runs with the identity {identity} and different numbers are left out: {twins[0].path} differs from {what}"
        )
    return kept, problems


def _first_difference(first: Run, second: Run) -> str | None:
    """The name of a metric or curve that differs; what was timed may."""
    one, other = (_series(run.result) for run in (first, second))
    for name in [*one, *(name for name in other if name not in one)]:
        if name not in one or name not in other or len(one[name]) != len(other[name]):
            return name
        if not all(map(_near, one[name], other[name])):
            return name
    return None


def _series(result: Mapping[str, Any]) -> dict[str, list[float | None]]:
    found = {name: [value] for name, value in result["metrics"].items() if name.rpartition("/")[2] not in TIMED}
    return {**found, **{f"curve {name}": curve["values"] for name, curve in result.get("curves", {}).items()}}


def _near(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=NEAR, abs_tol=1e-9)


def _why(folder: Path) -> str:
    """What status.json says of a run without a result."""
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
    """One line, not longer than is read."""
    line = next(iter(str(what).splitlines()), "") or type(what).__name__
    return line if len(line) <= REASON else line[: REASON - 1] + "…"
