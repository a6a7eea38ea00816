"""Views: everything that reports, the page and comparisons know about an experiment, and how they are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from anchorflow.errors import UserError, first_line
from anchorflow.report.per_query import Scores, of_predictions
from anchorflow.results import Record, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from anchorflow.report.cells import Cell
    from anchorflow.report.collect import Run
    from anchorflow.report.tables.sheets import Sheet

BUILT_IN = "anchorflow.report.views"
LISTED = 12
"""The most names in a message."""


class Place(NamedTuple):
    """Where a curve is drawn: the panel, the name of the line, and whether the panel's values span orders of magnitude."""

    panel: str
    variant: str = ""
    log: bool = False


def by_measure(curve: str) -> Place:
    """VARIANT/MEASURE is a line in the panel of its measure."""
    variant, _, measure = curve.rpartition("/")
    return Place(measure, variant)


class Drawing(NamedTuple):
    """A figure to draw. Its name (without an ending) describes it and does not depend on the rest of the report."""

    name: str
    title: str
    draw: Callable[[], Figure | None]


@dataclass(frozen=True)
class Panel:
    """The content of each cell of a figure over models and datasets. `draw` can be pickled: other processes draw, too."""

    draw: Callable[[Axes, Result], bool | None]
    """Draws a result; returns False if it legitimately has nothing to draw, and its place stays empty."""
    errors: bool = True
    """Whether it shows standard errors; the title of the figure then explains them."""
    remark: str = ""
    """A remark for the title of the figure."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything that reports know about an experiment. `View()` is the plain view.

    If a view names a metric, curve or table that a result lacks, the report lists it as a problem.
    """

    figures: Mapping[str, Callable[[Result, str], Figure | None]] | None = None
    """The figures of a single run by file name: functions of the result and a title, which return None if there is
    legitimately nothing to draw. Default: one figure for each panel of `place`."""
    panels: Mapping[str, Panel] | Callable[[Sequence[Cell]], Mapping[str, Panel]] | None = None
    """The figures over models and datasets by file name; they may depend on the cells. Default: as above."""
    place: Callable[[str], Place] = by_measure
    """The place of a curve with this name, on the page and in plain figures."""
    diagonal: Sequence[str] = ()
    """The panels of the page in which a perfect curve is y = x."""
    headings: Mapping[str, str] = field(default_factory=dict)
    """The tables that the page shows as matrices between classes, by name, with their headings."""
    headline: Sequence[str] | Callable[[Result], Sequence[str]] | None = None
    """The headline metrics (the overview has all, the page the first four), or a function that selects them from a result.
    Default: the first three metrics."""
    thirds: Sequence[str] = ()
    """The curves over layers whose means over the first and the last third are reported and compared."""
    thirds_ahead: Sequence[str] = ()
    """The ones among them that the overview shows."""
    default_variant: str = ""
    """The variant of metrics whose name has no VARIANT/ prefix."""
    rows: Callable[[Result], Mapping[str, tuple[str, str]]] | None = None
    """The metrics of the experiment's table, each with its variant (row) and measure (column). Default: all metrics that are
    not settings, split at the last / of their names."""
    sheets: Callable[[Sequence[Cell]], Sequence[Sheet]] | None = None
    """Further tables over all cells of the experiment."""
    drawings: Callable[[Sequence[Cell]], Sequence[Drawing]] | None = None
    """Further figures over all cells of the experiment. Each can be pickled: other processes draw, too."""
    averaged: Callable[[Mapping[str, Result]], Result] | None = None
    """The mean of one model's results over datasets, given by name, for which figures are drawn in addition."""
    contributions: Mapping[str, str] = field(default_factory=dict)
    """The curves that are the share of layers 1 to l in another curve's rise above 0.5, with the name of the other. For several
    seeds they are computed from the mean curve, because a mean of ratios is dominated by ratios with tiny denominators."""
    pool: Callable[[Sequence[Run]], Result] | None = None
    """Pools several seeds, if their result is not the mean over seeds: standard errors are then over units."""
    scores: Callable[[Run, Sequence[Record]], Scores] = of_predictions
    """The score of every unit by metric, which pairs two runs. Scores whose mean is not the metric are ignored."""
    timed: Sequence[str] = ()
    """Measures that vary between repetitions: two copies of a run may differ in them."""
    given: Sequence[str] = ()
    """Metrics that depend only on the data, which are not compared."""
    flows: bool = False
    """Whether runs save examples of flows (anchorflow.experiments.flows) for the page."""

    experiment: str = ""
    """The experiment's name; set by `view_of`."""
    problem: str = ""
    """Why this is the plain view instead of a requested one; set by `view_of`."""

    def place_of(self, curve: str, problems: list[str]) -> Place:
        """The place of the curve with this name."""
        what = f"the place of {self.experiment}'s curve {curve!r}"
        return attempt(what, lambda: Place(*self.place(curve)), problems) or by_measure(curve)

    def headline_of(self, result: Result, problems: list[str]) -> list[str] | None:
        """The names of the headline metrics, which the result may lack; None if the view names none."""
        if not callable(self.headline):
            return None if self.headline is None else list(self.headline)
        choose = self.headline
        return attempt(f"the headline of {self.experiment}", lambda: list(choose(result)), problems) or []

    def rows_of(self, result: Result, problems: list[str]) -> Mapping[str, tuple[str, str]] | None:
        """Variant and measure of the metrics in the experiment's table; None if the view has none."""
        if self.rows is None:
            return None
        choose = self.rows
        return attempt(f"the table of {self.experiment}", lambda: dict(choose(result)), problems) or {}

    def missing(self, result: Result) -> list[str]:
        """A message for each metric, curve and table that the view names and the result lacks.

        Also for each part of the view that fails, except for drawing.
        """
        problems: list[str] = []
        for curve in result.curves:
            self.place_of(curve, problems)
        asked = asking(self.experiment, result)
        named = (
            ({*(self.headline_of(asked, problems) or ()), *(self.rows_of(asked, problems) or ())}, asked.metrics),
            ({*self.thirds, *self.thirds_ahead}, asked.curves),
            (set(self.headings), asked.tables),
        )
        for names, found in named:
            for name in sorted(names):
                attempt(name, partial(found.__getitem__, name), problems)
        return list(dict.fromkeys(problems))


T = TypeVar("T")


def attempt(what: str, make: Callable[[], T], problems: list[str]) -> T | None:
    """The value of `make`, a part of a view. If it fails: None, and a message in `problems`; the report continues."""
    try:
        return make()
    except MemoryError:
        raise
    except NotInResultError as error:
        problems.append(str(error))
    except Exception as error:
        problems.append(f"{what} cannot be made ({type(error).__name__}: {first_line(error)})")
    return None


class NotInResultError(LookupError):
    """A view names something that a result lacks; the message names it."""


class _Asked(dict[str, Any]):
    """Metrics, curves or tables that name a missing key in their error."""

    def __init__(self, found: Mapping[str, Any], experiment: str, kind: str) -> None:
        super().__init__(found)
        self.experiment, self.kind = experiment, kind

    def __missing__(self, name: str) -> Any:
        has = [*list(self)[:LISTED], *[f"{len(self) - LISTED} more"] * (len(self) > LISTED)]
        raise NotInResultError(
            f"the view of {self.experiment} uses the {self.kind} {name!r}, which this result does not have; "
            f"it has: {', '.join(has) or 'none'}"
        )


def asking(experiment: str, result: Result) -> Result:
    """The result, in which a missing key raises NotInResultError."""
    return replace(
        result,
        metrics=_Asked(result.metrics, experiment, "metric"),
        curves=_Asked(result.curves, experiment, "curve"),
        tables=_Asked(result.tables, experiment, "table"),
    )


@cache
def view_of(experiment: str, target: str | None = None) -> View:
    """The view of the experiment with this name, whose class has the import path `target`.

    It is the VIEW of the module that the class names (`view: ClassVar[str] = "my_package.echo_view"`), else that of
    anchorflow.report.views.NAME, else the plain view. If an import fails, it is the plain view with the reason in `problem`.
    """
    found, problem = _built_in(experiment), ""
    try:
        named = None if target is None else getattr(_class(experiment, target), "view", None)
        if named is not None:
            found = _own(experiment, named)
    except _ClassNotFoundError as error:
        problem = "" if found else str(error)
    except UserError as error:
        found, problem = None, str(error)
    return replace(found or View(), experiment=experiment, problem=problem)


class _ClassNotFoundError(UserError):
    """The class of an experiment cannot be imported."""


def _class(experiment: str, target: str) -> type:
    module, _, name = target.rpartition(".")
    try:
        found = getattr(_imported(module), name)
        if not isinstance(found, type):
            raise TypeError("it is no class")
    except Exception as error:
        raise _ClassNotFoundError(
            f"{experiment} has the plain view: its class {target} cannot be imported ({first_line(error)}); "
            "allowed: a class in a module that Python finds here"
        ) from error
    return found


def _own(experiment: str, module: Any) -> View:
    allowed = "allowed: the import path of a module with VIEW = View(...), as in anchorflow.report.views"
    try:
        found = _imported(module).VIEW
        if not isinstance(found, View):
            raise TypeError(f"its VIEW is a {type(found).__name__}")
    except Exception as error:
        raise UserError(
            f"{experiment} has the plain view: its own, {module}, cannot be used ({first_line(error)}); {allowed}"
        ) from error
    return found


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except SystemExit as error:  # a script that exits when it is imported
        raise ImportError(f"it exits with {error.code}") from error


def _built_in(experiment: str) -> View | None:
    if experiment not in _names():
        return None
    found = getattr(importlib.import_module(f"{BUILT_IN}.{experiment}"), "VIEW", None)
    return found if isinstance(found, View) else None


def names_with_flows() -> list[str]:
    """The experiments of this package whose runs keep examples of flows."""
    return [name for name in sorted(_names()) if view_of(name).flows]


@cache
def _names() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(importlib.import_module(BUILT_IN).__path__))
