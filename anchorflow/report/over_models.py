"""Figures that compare models: curves over relative depth, one line a model, and the headline metric over model size."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from anchorflow.report.cells import Cell, by_place, model_of
from anchorflow.report.drawing import known, line, line_look, shown
from anchorflow.report.figures import named
from anchorflow.report.grids import Grid, title
from anchorflow.report.tables.overview import headline
from anchorflow.report.view import Panel
from anchorflow.results import Curve, Result
from anchorflow.settings import digest

COLUMNS = 4
"""Panels of one row."""
Lines = Mapping[str, Curve]
"""The lines of a panel, by what the legend calls them."""


def over_models(cells: Sequence[Cell], settings: Mapping[str, Any]) -> Iterator[Grid]:
    """The figures of one plane of cells. There are none for a single model, and none over size where all have the same size.

    Depth is layer / layers, as in W&B. Size is the number of weights.
    """
    experiment = cells[0].experiment
    if len({(cell.model, digest(model_of(cell))) for cell in cells}) < 2:
        return
    for curve in cells[0].view.thirds_ahead:
        panels = {dataset: _by_depth(own, curve) for dataset, own in _of_datasets(cells).items()}
        yield from _figure(f"{experiment}_{curve}_by_depth", panels, partial(_over_depth, curve), cells, settings)
    for metric in headline(cells[0])[:1]:
        lines = {dataset: _by_size(own, metric) for dataset, own in _of_datasets(cells).items()}
        if len({size for curve in lines.values() for size in curve.at}) > 1:
            found = {"": {name: curve for name, curve in lines.items() if curve.at}}
            yield from _figure(f"{experiment}_{metric}_by_size", found, partial(_over_size, metric), cells, settings)


def _figure(
    name: str, panels: Mapping[str, Lines], draw: Any, cells: Sequence[Cell], settings: Mapping[str, Any]
) -> Iterator[Grid]:
    filled = [(where, Result({}, curves=dict(lines))) for where, lines in panels.items() if lines]
    if filled:
        labels = list(dict.fromkeys(label for _, result in filled for label in result.curves))
        panel = Panel(partial(draw, labels))
        padded = [*filled, *[None] * (-len(filled) % min(COLUMNS, len(filled)))]
        rows = [padded[i : i + COLUMNS] for i in range(0, len(padded), COLUMNS)]
        yield Grid(named(name, settings), title(name, panel, cells, settings), rows, panel)


def _of_datasets(cells: Sequence[Cell]) -> dict[str, dict[str, Cell]]:
    """The cells of each dataset by their label: the model, with what else tells it from another cell of its place."""
    found: dict[str, dict[str, Cell]] = {}
    for (model, dataset), own in sorted(by_place(cells).items()):
        for told, cell in own:
            found.setdefault(dataset, {})[", ".join(filter(None, [model, told]))] = cell
    return found


def _by_depth(cells: Mapping[str, Cell], name: str) -> dict[str, Curve]:
    found = {}
    for label, cell in cells.items():
        if (curve := cell.result.curves.get(name)) is not None:
            layers = _environment(cell).get("layers") or max(curve.at)
            depth = [layer / layers for layer in curve.at]
            found[label] = Curve("depth", depth, curve.values, curve.stderr)
    return found


def _by_size(cells: Mapping[str, Cell], metric: str) -> Curve:
    found = sorted(
        (_environment(cell)["parameters"], cell.result.metrics[metric], cell.result.stderr.get(metric, float("nan")))
        for cell in cells.values()
        if _environment(cell).get("parameters") and metric in cell.result.metrics
    )
    sizes, values, errors = zip(*found, strict=True) if found else ((), (), ())
    return Curve("parameters", sizes, values, errors)


def _environment(cell: Cell) -> Mapping[str, Any]:
    found: Mapping[str, Any] = cell.runs[0].result.get("environment") or {}
    return found


def _over_depth(curve: str, labels: Sequence[str], axes: Axes, result: Result) -> None:
    for label, found in result.curves.items():
        line(axes, found, label=shown(label), **line_look(labels.index(label)))
    axes.set_xlim(0, 1)
    axes.set_xlabel("depth (layer / layers)")
    axes.set_ylabel(shown(curve))


def _over_size(metric: str, labels: Sequence[str], axes: Axes, result: Result) -> None:
    for label, curve in result.curves.items():
        look = {"label": shown(label), "color": line_look(labels.index(label))["color"], "linestyle": "none"}
        axes.errorbar(curve.at, known(curve.values), yerr=known(curve.stderr), marker=".", capsize=2, **look)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("parameters")
    axes.set_ylabel(shown(metric))
