"""The view of the experiment `recency` in reports."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report import Panel, View
from anchorflow.report.drawing import BLUE, beside, canvas, count_from_one, line
from anchorflow.results import Result


def repeats(axes: Axes, result: Result) -> None:
    """The share of repeated labels over the distance of the demonstration."""
    curve = result.curves["repeats"]
    line(axes, curve, color=BLUE)
    beside(axes, 0.5, "chance")
    count_from_one(axes, curve)
    axes.set(xlabel="demonstrations back", ylabel="share of predictions\nthat repeat its label", ylim=(0, 1.05))


def figure(result: Result, title: str) -> Figure:
    """The same for one run."""
    drawn, (axes,) = canvas(title)
    repeats(axes, result)
    return drawn


VIEW = View(
    figures={"recency": figure},
    panels={"recency": Panel(repeats)},
    headline=("accuracy", "repeats_last"),
)
