"""What isolated label words cost (Label Words are Anchors, fig. 4)."""

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report.drawing import AMBER, BLUE, Bars, canvas, filled, grouped_bars, hatched, legend_below
from anchorflow.report.view import Panel, View
from anchorflow.results import Result

STYLES = {
    "label_first": ("label words, first k layers", filled(BLUE)),
    "label_last": ("label words, last k layers", hatched(BLUE, "////")),
    "random_first": ("random positions, first k layers", filled(AMBER)),
    "random_last": ("random positions, last k layers", hatched(AMBER, "....")),
}
MEASURES = {"label_loyalty": "label loyalty", "word_loyalty": "word loyalty"}


def loyalty(result: Result, title: str) -> Figure:
    """Label loyalty and word loyalty side by side, for every k."""
    ks = result.curves["label_first/label_loyalty"].at
    width = min(14.0, 3.2 + 0.9 * len(ks))
    figure, panels = canvas(title, width=width, height=3.4, columns=2, sharey=True)
    for axes, (measure, name) in zip(panels, MEASURES.items(), strict=True):
        bars(axes, result, measure)
        axes.set_title(name, fontsize=9)
    panels[0].set_ylabel("loyalty")
    legend_below(figure, panels[0], columns=2)
    return figure


def bars(axes: Axes, result: Result, measure: str) -> None:
    """A bar for every k and kind of isolation."""
    series = []
    for kind, (label, look) in STYLES.items():
        curve = result.curves[f"{kind}/{measure}"]
        series.append(Bars(label, curve.values, look, curve.stderr))
    grouped_bars(axes, [f"{k:g}" for k in curve.at], series)
    axes.set(xlabel="k (isolated layers)", ylim=(0, 1.05))


def headline(result: Result) -> list[str]:
    """What isolated label words cost in word loyalty, where k = 5 was run."""
    names = ("label_first_5/word_loyalty", "label_last_5/word_loyalty")
    return [name for name in names if name in result.metrics]


VIEW = View(
    figures={"isolation": loyalty},
    panels={
        f"isolation_{measure}": Panel(partial(bars, measure=measure)) for measure in ("label_loyalty", "word_loyalty")
    },
    headline=headline,
    default_variant="full",
)
