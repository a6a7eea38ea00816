"""What labels in the context do (In-Context Learning Learns Label Relationships): curves, both sides, tables over runs."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anchorflow.metrics import holm
from anchorflow.report.drawing import (
    AMBER,
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    SMALL,
    beside,
    canvas,
    footnotes,
    known,
    line,
    matrix,
    say_if_undefined,
)
from anchorflow.report.sheets import Sheet, clean
from anchorflow.results import Curve, Result, Table

WINDOW = 5
"""Curves are drawn as moving averages over so many places, as in the paper; numbers in the result are not."""
SMOOTHED = f"Curves are moving averages over {WINDOW} places."
MEASURES = {"accuracy": "accuracy", "log_likelihood": "log-likelihood", "entropy": "entropy (nats)"}
COLOURS = (BLUE, ORANGE, GREEN, AMBER, "#CC79A7", "#56B4E9", "0.15")
STYLES = ("-", "--", "-.", ":")
TURNS = re.compile(r"(flip_after|default_after|alternating)_(\d+)")
NAME = 30
"""Characters of a model's or dataset's name along a heat map."""
LEVEL = 0.05
MARKS = "* p < 0.05, corrected over all cells (Holm). In brackets: default labels do not beat guessing."


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
        look = {"color": COLOURS[i % len(COLOURS)], "linestyle": STYLES[i // len(COLOURS) % len(STYLES)]}
        _draw(axes, result.curves[f"{name}/{measure}"], label=_shown(name), **look)
    if f"flipped/flipped_{measure}" in result.curves:
        colour = COLOURS[names.index("flipped") % len(COLOURS)]
        flipped = {"color": colour, "linestyle": (0, (1, 1)), "label": "flipped, against flipped labels"}
        _draw(axes, result.curves[f"flipped/flipped_{measure}"], **flipped)
    _guessing(axes, result, measure)


def both_sides(result: Result, title: str) -> Figure | None:
    """Regimes that change side, against the true and the flipped labels; None without any.

    A dashed line is where the side changes first, a dotted one where as many labels of both sides were shown.
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
                axes.set_title(_shown(name), fontsize=9)
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
    """The regimes that change side."""
    return [name for name in _regimes(result) if TURNS.fullmatch(name)]


def sides(axes: Axes, result: Result, name: str, measure: str) -> None:
    """One measure under a regime that changes side, against the true and the flipped labels."""
    _draw(axes, result.curves[f"{name}/{measure}"], color=BLUE, label="against the true labels")
    flipped = result.curves[f"{name}/flipped_{measure}"]
    _draw(axes, flipped, color=ORANGE, linestyle="--", label="against the flipped labels")
    kind, turn = TURNS.fullmatch(name).groups()  # type: ignore[union-attr]
    if kind != "alternating" and max(flipped.at) > 0:
        for at, style in ((int(turn), "--"), (2 * int(turn), ":")):
            if 0 < at <= max(flipped.at):
                axes.axvline(at, color="0.3", linewidth=1, linestyle=style)


def smooth(curve: Curve, window: int = WINDOW) -> Curve:
    """The moving average over up to `window` places around each, fewer at the ends; what is undefined is left out."""

    def averaged(values: Any) -> list[float]:
        found = []
        for i in range(len(values)):
            reach = min(window // 2, i, len(values) - 1 - i)
            near = values[i - reach : i + reach + 1]
            near = near[~np.isnan(near)]
            found.append(float(near.mean()) if len(near) else math.nan)
        return found

    stderr = None if curve.stderr is None else averaged(known(curve.stderr))
    return Curve(curve.x, curve.at, averaged(known(curve.values)), stderr)


@dataclass(frozen=True)
class Hypothesis:
    """A null hypothesis over models (rows) and datasets (columns): [row][column], nan where there is no run.

    `p` is corrected over all cells (Holm). `fails` is whether the default labels' log-likelihood at the largest context
    is not above guessing: there the labels were not learned, and a difference says nothing.
    """

    name: str
    models: Sequence[str]
    datasets: Sequence[str]
    difference: np.ndarray
    p: np.ndarray
    fails: np.ndarray


class Test(NamedTuple):
    """What a run says of a null hypothesis: the difference, its p alone, and whether default labels, if it had them, fail
    to beat guessing."""

    difference: float
    p: float
    fails: bool

    @classmethod
    def of(cls, metrics: Mapping[str, float], name: str) -> "Test":
        """From a run's metrics, of the difference `name`."""
        above = metrics.get("default_minus_guessing", math.nan)
        return cls(metrics[name], metrics.get(f"{name}_p", math.nan), bool(above <= 0))


def hypothesis(tests: Mapping[tuple[str, str], Test], name: str) -> Hypothesis:
    """The tests of every (model, dataset) together."""
    models, datasets = (list(dict.fromkeys(place[i] for place in tests)) for i in (0, 1))
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))

    def grid(of: Mapping[tuple[str, str], float]) -> np.ndarray:
        return known([[of.get((model, dataset)) for dataset in datasets] for model in models])

    difference = grid({place: test.difference for place, test in tests.items()})
    fails = grid({place: float(test.fails) for place, test in tests.items()}) > 0
    return Hypothesis(name, models, datasets, difference, grid(corrected), fails)


def sheet(found: Hypothesis, title: str) -> Sheet:
    """A table: * where the null hypothesis is rejected at 5 % over all cells, brackets where default does not beat guessing."""
    rows = [[model, *map(_written, *_row(found, i))] for i, model in enumerate(found.models)]
    return Sheet(found.name, title, ["model", *found.datasets], rows, [MARKS])


def heat_map(found: Hypothesis, title: str) -> Figure:
    """The same as a picture; cells where default labels do not beat guessing are grey."""
    models, datasets = ([clean(name, NAME) for name in names] for names in (found.models, found.datasets))
    width = max(3.6, 1.2 + 0.08 * max(map(len, models)) + 0.95 * len(datasets))
    height = 1.7 + 0.05 * max(map(len, datasets)) + 0.45 * len(models)
    figure, (axes,) = canvas(title, width, height)
    shown = np.where(found.fails, math.nan, found.difference)
    largest = max([1e-6, *np.abs(shown[~np.isnan(shown)])])
    table = Table(found.models, found.datasets, shown.tolist())
    image = matrix(axes, table, cmap="RdBu", limits=(-largest, largest), numbers=False)
    for i in range(len(found.models)):
        for j, text in enumerate(map(_written, *_row(found, i))):
            dark = abs(shown[i, j]) > 0.6 * largest
            axes.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor", "parse_math": False}
    axes.set_xticks(range(len(datasets)), datasets, **slanted)
    axes.set_yticks(range(len(models)), models, parse_math=False)
    figure.colorbar(image, label=textwrap.fill(_shown(found.name), 30))
    footnotes(figure, [MARKS])
    return figure


def _row(found: Hypothesis, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return found.difference[i], found.p[i], found.fails[i]


def _written(difference: float, p: float, fails: bool) -> str:
    if math.isnan(difference):
        return "–"
    text = f"{difference:+.2f}{'*' if p < LEVEL else ''}"
    return f"({text})" if fails else text


def _regimes(result: Result) -> list[str]:
    return [name.removesuffix("/entropy") for name in result.curves if name.endswith("/entropy")]


def _shown(name: str) -> str:
    return clean(name.replace("_", " "), 60).replace("$", r"\$")


def _draw(axes: Axes, curve: Curve, **look: Any) -> None:
    line(axes, smooth(curve), **{"linewidth": 1.6, "markersize": 3, **look})
    axes.set_xlabel("examples before")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=6))
    axes.set_xlim(-0.5, max(curve.at) + 0.5)
    if all(np.isnan(known(drawn.get_ydata())).all() for drawn in axes.lines):
        say_if_undefined(axes, curve)


def _legend(figure: Figure, axes: Axes) -> None:
    """On the right, where many regimes have room and the notes below stay free."""
    entries = axes.get_legend_handles_labels()
    figure.legend(*entries, loc="outside right upper", frameon=False, fontsize=SMALL, handlelength=2.2)


def _level(result: Result, measure: str) -> float:
    return float(known(result.metrics.get(f"guessing/{measure}")))


def _guessing(axes: Axes, result: Result, measure: str) -> None:
    level = _level(result, measure)
    if not math.isnan(level):
        beside(axes, level, "guess")
