"""The figures of an experiment whose view defines none: a panel per measure, a line per variant."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anchorflow.report.cells import Cell
from anchorflow.report.drawing import canvas, footnotes, known, legend_below, line, line_look, say_if_undefined, shown
from anchorflow.report.view import Panel, Place, View
from anchorflow.results import Result


def figures(view: View, result: Result) -> dict[str, Callable[[Result, str], Figure]]:
    """A figure for each panel in which the view places curves."""
    return {panel: partial(_figure, places) for panel, places in _panels(view, result.curves).items()}


def panels(view: View, cells: Sequence[Cell]) -> dict[str, Panel]:
    """The same panels over models and datasets."""
    curves = dict.fromkeys(name for cell in cells for name in cell.result.curves)
    return {
        f"{view.experiment}_{panel}": Panel(partial(_lines, places)) for panel, places in _panels(view, curves).items()
    }


def _panels(view: View, curves: Iterable[str]) -> dict[str, dict[str, Place]]:
    """The places of curves, by panel and curve."""
    found: dict[str, dict[str, Place]] = {}
    for curve in curves:
        place = view.place_of(curve, [])
        found.setdefault(place.panel, {})[curve] = place
    return found


def _figure(places: Mapping[str, Place], result: Result, title: str) -> Figure:
    figure, (axes,) = canvas(title)
    _lines(places, axes, result)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        legend_below(figure, axes, columns=3)
    footnotes(figure, result.notes)
    return figure


def _lines(places: Mapping[str, Place], axes: Axes, result: Result) -> bool:
    """Draw the curves at these places; False if the result has none of them."""
    found = [name for name in places if name in result.curves]
    for name in found:
        curve, place = result.curves[name], places[name]
        label = {"label": shown(place.variant)} if place.variant else {}
        line(axes, curve, **line_look(list(places).index(name)), **label)
        axes.set_xlabel(shown(curve.x))
        axes.set_ylabel(shown(place.panel))
        if all(float(at).is_integer() for at in curve.at):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if place.log and (known(curve.values) > 0).any():
            axes.set_yscale("log")
    if all(np.isnan(known(result.curves[name].values)).all() for name in found):
        for name in found[:1]:
            say_if_undefined(axes, result.curves[name])
    return bool(found)
