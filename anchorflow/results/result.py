"""The result of a run: metrics, curves and tables, and their JSON form."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
Record = dict[str, Any]
"""One line of records.jsonl: only JSON types."""


@dataclass(frozen=True)
class Curve:
    """Values over an axis: `x` is the name of the axis (layer, k, epoch, n_demonstrations), `at` the positions on it."""

    x: str
    at: Sequence[float]
    values: Sequence[float]
    stderr: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name in ("values", "stderr"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.at):
                raise ValueError(f"a curve over {len(self.at)} positions has {len(given)} {name}")


@dataclass(frozen=True)
class Table:
    """A matrix with named rows and columns."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]

    def __post_init__(self) -> None:
        if [len(row) for row in self.values] != [len(self.columns)] * len(self.rows):
            raise ValueError(f"a table's values are not {len(self.rows)} rows of {len(self.columns)}")

    def to_pandas(self) -> "pd.DataFrame":
        """The matrix as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(
            list(map(list, self.values)), index=list(self.rows), columns=list(self.columns), dtype=float
        )


@dataclass(frozen=True)
class Result:
    """What `reduce` computes from the records. Shares are fractions; `stderr` has the standard errors of some metrics.

    `notes` explain the numbers: why one is undefined, what was left out.
    """

    metrics: Mapping[str, float]
    stderr: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_pandas(self) -> "pd.DataFrame":
        """All metrics and curves, one row per number: name, x and at (for curves), value, stderr."""
        import pandas as pd

        rows: list[tuple[Any, ...]] = [
            (name, None, math.nan, value, self.stderr.get(name, math.nan)) for name, value in self.metrics.items()
        ]
        for name, curve in self.curves.items():
            errors = [math.nan] * len(curve.at) if curve.stderr is None else curve.stderr
            rows += [(name, curve.x, *point) for point in zip(curve.at, curve.values, errors, strict=True)]
        return pd.DataFrame(rows, columns=["name", "x", "at", "value", "stderr"])

    def to_json(self) -> dict[str, Any]:
        """The result as JSON types; undefined values (nan) are null."""
        return {
            "metrics": _plain(self.metrics),
            "stderr": _plain(self.stderr),
            "curves": {name: _plain(vars(curve)) for name, curve in self.curves.items()},
            "tables": {name: _plain(vars(table)) for name, table in self.tables.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Result":
        """The inverse of `to_json`; null becomes nan. ValueError for lengths that do not match."""
        return cls(
            metrics=_known(found["metrics"]),
            stderr=_known(found.get("stderr", {})),
            curves={name: Curve(**_known(curve)) for name, curve in found.get("curves", {}).items()},
            tables={name: Table(**_known(table)) for name, table in found.get("tables", {}).items()},
            notes=list(found.get("notes", [])),
        )


def of_tests(metrics: Iterable[str]) -> set[str]:
    """The names that describe the certainty of another metric (NAME_p, NAME_low, NAME_high); their means are meaningless."""
    names = set(metrics)
    return {f"{name}_{what}" for name in names for what in ("p", "low", "high")} & names


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars, without importing numpy at every start
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _known(value: Any) -> Any:
    """Replace null among numbers by nan. A null instead of a whole list (a curve without stderr) stays."""
    if isinstance(value, Mapping):
        return {k: v if v is None and k == "stderr" else _known(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_known(v) for v in value]
    return math.nan if value is None else value
