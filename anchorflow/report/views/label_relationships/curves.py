"""Curves over the number of examples under each regime; regimes that switch labels are scored against both sides."""

import math
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anchorflow.report.cells import Cell
from anchorflow.report.drawing import (
    BLUE,
    COLOURS,
    FAINT,
    ORANGE,
    SMALL,
    beside,
    canvas,
    footnotes,
    known,
    line,
    line_look,
    say_if_undefined,
    shown,
)
from anchorflow.report.view import Panel
from anchorflow.results import Curve, Result

WINDOW = 5
"""The window of the moving averages that are drawn, as in the paper; numbers in the result are not averaged."""
SMOOTHED = f"Curves are moving averages over {WINDOW} points."
MEASURES = {"accuracy": "accuracy", "log_likelihood": "log-likelihood", "entropy": "entropy (nats)"}
TURNS = re.compile(r"(flip_after|default_after|alternating)_(\d+)")


def curves(result: Result, title: str) -> Figure:
    """Accuracy, log-likelihood and entropy under every regime; flipped labels against both sides."""
    figure, panels = canvas(title, width=11.6, height=3.4, columns=3)
    for axes, (measure, label) in zip(panels, MEASURES.items(), strict=True):
        regimes(axes, result, measure)
        axes.set_title(label, fontsize=9)
    _legend(figure, panels[0])
    footnotes(figure, [SMOOTHED, *result.notes])
    return figure


def regimes(axes: Axes, result: Result, measure: str) -> None:
    """One measure under every regime."""
    names = _regimes(result)
    for i, name in enumerate(names):
        _draw(axes, result.curves[f"{name}/{measure}"], label=shown(name), **line_look(i))
    if f"flipped/flipped_{measure}" in result.curves:
        colour = COLOURS[names.index("flipped") % len(COLOURS)]
        flipped = {"color": colour, "linestyle": (0, (1, 1)), "label": "flipped, against flipped labels"}
        _draw(axes, result.curves[f"flipped/flipped_{measure}"], **flipped)
    _guessing(axes, result, measure)


def both_sides(result: Result, title: str) -> Figure | None:
    """Regimes that switch sides, scored against the true and the flipped labels; None if there are none.

    A dashed line marks the first switch, a dotted one the point where both sides were shown equally often.
    """
    names = changing(result)
    if not names:
        return None
    n = len(names)
    figure, panels = canvas(title, width=2.8 + 2.7 * n, height=5.2, rows=2, columns=n, sharex=True)
    for row, measure in enumerate(("accuracy", "log_likelihood")):
        for column, name in enumerate(names):
            axes = panels[row * n + column]
            sides(axes, result, name, measure)
            if column == n - 1:
                _guessing(axes, result, measure)
            else:
                axes.axhline(_level(result, measure), **FAINT)
            if row == 0:
                axes.set_title(shown(name), fontsize=9)
                axes.set_xlabel("")
        in_row = panels[row * n : (row + 1) * n]
        in_row[0].set_ylabel(MEASURES[measure])
        limits = [axes.get_ylim() for axes in in_row]
        for axes in in_row:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    _legend(figure, panels[0])
    footnotes(figure, [SMOOTHED, *result.notes])
    return figure


def changing(result: Result) -> list[str]:
    """The regimes that switch sides."""
    return [name for name in _regimes(result) if TURNS.fullmatch(name)]


def sides(axes: Axes, result: Result, name: str, measure: str) -> bool:
    """One measure under a switching regime, against the true and the flipped labels; False if it was not run."""
    if name not in _regimes(result):
        return False
    _draw(axes, result.curves[f"{name}/{measure}"], color=BLUE, label="against the true labels")
    flipped = result.curves[f"{name}/flipped_{measure}"]
    _draw(axes, flipped, color=ORANGE, linestyle="--", label="against the flipped labels")
    kind, turn = TURNS.fullmatch(name).groups()  # type: ignore[union-attr]
    if kind != "alternating" and max(flipped.at) > 0:
        for at, style in ((int(turn), "--"), (2 * int(turn), ":")):
            if 0 < at <= max(flipped.at):
                axes.axvline(at, color="0.3", linewidth=1, linestyle=style)
    return True


def panels(cells: Sequence[Cell]) -> dict[str, Panel]:
    """The figures over models and datasets, including entropy if labels are flipped, and both sides of switching regimes."""
    measures = ["accuracy", "log_likelihood"]
    changed = dict.fromkeys(name for cell in cells for name in changing(cell.result))
    flipped = any("flipped/entropy" in cell.result.curves for cell in cells)
    draw = {
        f"label_relationships_{measure}": partial(regimes, measure=measure)
        for measure in (*measures, *["entropy"] * flipped)
    } | {f"{name}_{measure}": partial(sides, name=name, measure=measure) for name in changed for measure in measures}
    return {name: Panel(panel, remark=f"moving averages over {WINDOW}") for name, panel in draw.items()}


def smooth(curve: Curve, window: int = WINDOW) -> Curve:
    """The moving average over up to `window` points around each, fewer at the ends; undefined values are left out."""
    places = np.arange(len(curve.at))
    reach = np.minimum(window // 2, np.minimum(places, places[::-1]))

    def averaged(values: np.ndarray) -> list[float]:
        there = ~np.isnan(values)
        sums, counts = (np.concatenate([[0], each.cumsum()]) for each in (np.where(there, values, 0), there))
        near = counts[places + reach + 1] - counts[places - reach]
        total = sums[places + reach + 1] - sums[places - reach]
        found: list[float] = np.where(near > 0, total / np.maximum(near, 1), np.nan).tolist()
        return found

    stderr = None if curve.stderr is None else averaged(known(curve.stderr))
    return Curve(curve.x, curve.at, averaged(known(curve.values)), stderr)


def _regimes(result: Result) -> list[str]:
    return [name.removesuffix("/entropy") for name in result.curves if name.endswith("/entropy")]


def _draw(axes: Axes, curve: Curve, **look: Any) -> None:
    line(axes, smooth(curve), **{"linewidth": 1.6, "markersize": 3, **look})
    axes.set_xlabel("examples before")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
    axes.set_xlim(-0.5, max(curve.at) + 0.5)
    if all(np.isnan(known(drawn.get_ydata())).all() for drawn in axes.lines):
        say_if_undefined(axes, curve)


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend on the right, where many regimes fit and the notes below stay visible."""
    entries = axes.get_legend_handles_labels()
    figure.legend(*entries, loc="outside right upper", frameon=False, fontsize=SMALL, handlelength=2.2)


def _level(result: Result, measure: str) -> float:
    return float(known(result.metrics.get(f"guessing/{measure}")))


def _guessing(axes: Axes, result: Result, measure: str) -> None:
    level = _level(result, measure)
    if not math.isnan(level):
        beside(axes, level, "guess")
