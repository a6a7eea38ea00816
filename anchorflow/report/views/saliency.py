"""The three flows of information over the layers (Label Words are Anchors, fig. 3)."""

from collections.abc import Callable
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report.drawing import BLUE, GREEN, ORANGE, canvas, count_from_one, known, legend_below, line
from anchorflow.report.view import Panel, Place, View, by_measure
from anchorflow.results import Result

STYLES = {
    "S_wp": (r"$S_{wp}$  words → label words", BLUE, "-"),
    "S_pq": (r"$S_{pq}$  label words → target", ORANGE, "--"),
    "S_ww": (r"$S_{ww}$  words → words", GREEN, ":"),
}


def flow_shares(result: Result, title: str) -> Figure:
    """Share of each kind of flow over the layers."""
    return _figure(result, title, shares)


def flow_means(result: Result, title: str) -> Figure:
    """Mean saliency of each kind over the layers, before shares are taken."""
    return _figure(result, title, means)


def shares(axes: Axes, result: Result) -> None:
    """The three shares of every layer."""
    _flows(axes, result, "_share", "share of saliency")


def means(axes: Axes, result: Result) -> None:
    """The three means of every layer, on a log axis."""
    _flows(axes, result, "", "mean saliency")
    values = known([result.curves[flow].values for flow in STYLES])
    if (
        values > 0
    ).any():  # an exact zero (S_wp of the last layer, where only the target's row counts) has no place here
        axes.set_yscale("log")
        axes.set_ylim(bottom=values[values > 0].min() / 2)


def _figure(result: Result, title: str, draw: Callable[[Axes, Result], None]) -> Figure:
    figure, (axes,) = canvas(title)
    draw(axes, result)
    legend_below(figure, axes, columns=3)
    return figure


def _flows(axes: Axes, result: Result, suffix: str, ylabel: str) -> None:
    for flow, (label, colour, style) in STYLES.items():
        curve = result.curves[flow + suffix]
        if not suffix:
            values = known(curve.values)
            values[values == 0] = float("nan")
            curve = replace(curve, values=values.tolist())
        line(axes, curve, color=colour, linestyle=style, label=label)
    axes.set_ylabel(ylabel)
    count_from_one(axes, curve)


def place(curve: str) -> Place:
    """Shares in one panel, means in another, where they span orders of magnitude."""
    flow = curve.removesuffix("_share")
    if flow not in STYLES:
        return by_measure(curve)
    return Place("mean saliency", flow, log=True) if flow == curve else Place("share of saliency", flow)


SHARES = tuple(f"{flow}_share" for flow in STYLES)
VIEW = View(
    figures={"saliency_shares": flow_shares, "saliency_means": flow_means},
    panels={"saliency_shares": Panel(shares), "saliency_means": Panel(means)},
    place=place,
    headline=("accuracy",),
    thirds=(*SHARES, *STYLES),
    thirds_ahead=SHARES[:2],
    flows=True,
)
