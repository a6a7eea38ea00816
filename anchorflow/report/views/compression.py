"""Quality and cost of demonstrations compressed to their anchors (Label Words are Anchors, tables 2, 3 and 6)."""

from collections.abc import Mapping
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.experiments.compression import TIMED, VARIANTS
from anchorflow.report.drawing import (
    AMBER,
    BLUE,
    GREEN,
    SMALL,
    Bars,
    canvas,
    filled,
    grouped_bars,
    hatched,
    known,
    legend_below,
    slanted,
)
from anchorflow.report.view import Panel, View
from anchorflow.results import Result

MEASURES = {
    "label_loyalty": ("label loyalty", filled(BLUE)),
    "word_loyalty": ("word loyalty", filled(AMBER)),
    "accuracy": ("accuracy", hatched(GREEN, "////")),
}
SPEEDUPS = {
    "speedup": ("against full without cache", filled(BLUE)),
    "speedup_over_cache": ("against full with the demonstrations' cache", hatched(BLUE, "////")),
}


def loyalty(result: Result, title: str) -> Figure:
    """Label loyalty, word loyalty and accuracy of every variant."""
    figure, (axes,) = canvas(title, width=6.4)
    kept_predictions(axes, result)
    legend_below(figure, axes, columns=3)
    return figure


def kept_predictions(axes: Axes, result: Result) -> None:
    """Three bars for every variant."""
    series = [
        Bars(label, _of_variants(result.metrics, key), look, _of_variants(result.stderr, key))
        for key, (label, look) in MEASURES.items()
    ]
    grouped_bars(axes, VARIANTS, series)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.set(ylabel="mean over queries", ylim=(0, 1.05))


def cost(result: Result, title: str) -> Figure:
    """The share of the demonstrations that every variant keeps, and its speed-up."""
    figure, (kept, speed) = canvas(title, width=6.4, height=4.8, rows=2, sharex=True)
    shares, tokens = _of_variants(result.metrics, "kept_share"), _of_variants(result.metrics, "kept_tokens")
    written = [f"{share:.2f} ({n:.4g} tokens)" for share, n in zip(shares, tokens, strict=True)]
    grouped_bars(kept, VARIANTS, [Bars("kept", shares, filled(GREEN), written=written)])
    kept.set(ylabel="share of tokens kept", ylim=(0, 1.15))
    speedups(speed, result)
    legend_below(figure, speed, columns=2)
    return figure


def speedups(axes: Axes, result: Result) -> None:
    """Both speed-ups of every variant."""
    series = []
    for key, (label, look) in SPEEDUPS.items():
        values = _of_variants(result.metrics, key)
        series.append(Bars(label, values, look, written=[f"{value:.2f}×" for value in values]))
    grouped_bars(axes, VARIANTS, series)
    axes.set_ylabel("speed-up")
    axes.margins(y=0.15)
    axes.tick_params(axis="x", labelsize=SMALL)


def _of_variants(found: Mapping[str, float], key: str) -> list[float]:
    return [float(value) for value in known([found.get(f"{name}/{key}") for name in VARIANTS])]


VIEW = View(
    figures={"compression": loyalty, "compression_cost": cost},
    panels={
        "compression": Panel(partial(slanted, draw=kept_predictions)),
        "compression_speedup": Panel(partial(slanted, draw=speedups), errors=False),
    },
    headline=("hidden_anchor/label_loyalty", "hidden_anchor/word_loyalty"),
    timed=TIMED,
)
