"""Common parts of figures: canvas, lines over layers, grouped bars, matrices, and remarks on undefined values.

An undefined value is nan in a result, and None in one read from a file; `known` accepts both.
"""

import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from anchorflow.report.tables.sheets import LONG, UNDEFINED, clean
from anchorflow.results import Curve, Result, Table

# Okabe and Ito's colours, distinguishable with any colour vision; line styles, hatches and lightness distinguish them
# in print.
BLUE, ORANGE, GREEN, AMBER = "#0072B2", "#D55E00", "#009E73", "#E69F00"
COLOURS = (BLUE, ORANGE, GREEN, AMBER, "#CC79A7", "#56B4E9", "0.15")
STYLES = ("-", "--", "-.", ":")
FAINT: dict[str, Any] = {"color": "0.6", "linewidth": 1, "linestyle": ":"}
MOST_DOTS = 40
"""The most points of a curve that has a dot at each."""
SMALL = 7.5
LINE = 16
LINE_HEIGHT = 0.15
"""Inches."""


@dataclass(frozen=True)
class Bars:
    """A series of bars, one in every group; `written` are the labels above them."""

    label: str
    values: Sequence[float]
    look: Mapping[str, Any]
    stderr: Sequence[float] | None = None
    written: Sequence[str] | None = None


def filled(colour: str) -> dict[str, Any]:
    """The look of a bar of one colour."""
    return {"facecolor": colour, "edgecolor": colour}


def hatched(colour: str, pattern: str) -> dict[str, Any]:
    """The look of a bar that differs from a filled one even without colour."""
    return {"facecolor": "white", "edgecolor": colour, "hatch": pattern}


def canvas(
    title: str,
    width: float = 5.2,
    height: float = 3.4,
    rows: int = 1,
    columns: int = 1,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure with its panels, row by row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    lines = textwrap.wrap(clean(title, LONG), int(13 * width))
    figure.suptitle("\n".join(lines), fontsize=9, parse_math=False)
    make_room(figure, len(lines))
    panels = list(figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).flat)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
    return figure, panels


def make_room(figure: Figure, lines: int) -> None:
    """Make a figure taller for this many lines of text outside its panels; there is always room for one."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LINE_HEIGHT * max(0, lines - 1))


def known(values: Any) -> np.ndarray:
    """The values as floats, nan where undefined."""
    return np.array(values, dtype=float)


def line(axes: Axes, curve: Curve, **look: Any) -> None:
    """Draw the curve with standard errors as a band; undefined values are gaps, isolated ones dots.

    A short curve has a dot at every point.
    """
    x, y = known(curve.at), known(curve.values)
    there = np.pad(~np.isnan(y), 1)
    alone = there[1:-1] & ~there[:-2] & ~there[2:]
    dots = None if len(x) <= MOST_DOTS else list(np.flatnonzero(alone))
    axes.plot(x, y, **{"linewidth": 2, "marker": ".", "markersize": 5, "markevery": dots, **look})
    if curve.stderr is not None:
        band = known(curve.stderr)
        axes.fill_between(x, y - band, y + band, color=look["color"], alpha=0.2, linewidth=0)


def line_look(number: int) -> dict[str, Any]:
    """Colour and style of a line among several."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": STYLES[number // len(COLOURS) % len(STYLES)]}


def shown(name: str) -> str:
    """A name from the data as text for a legend or axis."""
    return clean(spaced(name), 60).replace("$", r"\$")


def spaced(name: str) -> str:
    """A name with blanks for underscores, except within S_wp, S_pq and S_ww."""
    return re.sub(r"_(?!(wp|pq|ww)(_|$))", " ", name)


def count_from_one(axes: Axes, curve: Curve) -> None:
    """Set up an x axis of layers or epochs, labelled as in the curve."""
    axes.set_xlabel(curve.x)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, max(curve.at) + 0.5)


def beside(axes: Axes, y: float, text: str) -> None:
    """Draw a faint horizontal line, with its name to the right of the data."""
    axes.axhline(y, **FAINT)
    axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=SMALL, color="0.4")


def grouped_bars(axes: Axes, groups: Sequence[str], series: Sequence[Bars]) -> None:
    """Draw bars with standard errors, one group for each name on the x axis."""
    width = 0.8 / len(series)
    for i, bars in enumerate(series):
        x = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        y = known(bars.values)
        drawn = axes.bar(x, y, width=0.88 * width, linewidth=0.8, label=bars.label, **bars.look)
        if bars.stderr is not None:
            axes.errorbar(x, y, yerr=known(bars.stderr), fmt="none", ecolor="0.15", elinewidth=0.9, capsize=1.8)
        if bars.written is not None:
            shown = ["" if np.isnan(value) else text for value, text in zip(y, bars.written, strict=True)]
            axes.bar_label(drawn, shown, padding=1.5, fontsize=SMALL)
        for place in x[np.isnan(y)]:
            axes.text(place, 0, UNDEFINED, ha="center", va="bottom", fontsize=SMALL)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.grid(False, axis="x")


def slanted(axes: Axes, result: Result, draw: Callable[[Axes, Result], None]) -> None:
    """Draw with `draw`, then slant the names on the x axis so that they fit next to other panels."""
    draw(axes, result)
    for label in axes.get_xticklabels():
        label.set(rotation=30, ha="right", rotation_mode="anchor")


def matrix(
    axes: Axes, table: Table, cmap: str = "cividis", limits: tuple[float, float] = (0, 1), numbers: bool = True
) -> AxesImage:
    """Draw the table as an image with a number in every cell; undefined cells are grey, with a dash."""
    values = known(table.values)
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=matplotlib.colormaps[cmap].with_extremes(bad="0.88"),
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
    )
    axes.grid(False)
    if numbers:
        for (row, column), value in np.ndenumerate(values):
            shown, dark = (UNDEFINED, False) if np.isnan(value) else (f"{value:.2f}", value <= 0.5)
            axes.text(column, row, shown, ha="center", va="center", color="white" if dark else "black", fontsize=8)
    return image


def class_names(axes: Axes, names: Sequence[str]) -> None:
    """Label both axes of a matrix with the names of classes."""
    wrapped = [textwrap.fill(clean(name, 3 * LINE), LINE) for name in names]
    axes.set_xticks(range(len(names)), wrapped, rotation=30, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(names)), wrapped, parse_math=False)


def matrix_size(names: Sequence[str], panels: int = 1) -> tuple[float, float]:
    """Width and height of a figure with matrices of these classes side by side: room for each number and name."""
    longest = min(LINE, max(len(name) for name in names))
    width = 1.2 + 0.09 * longest + panels * max(1.9, 0.6 * len(names)) + 0.06 * (panels - 1) * longest
    return width, 1.3 + 0.05 * longest + max(1.3, 0.5 * len(names))


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend for all panels, outside the data."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        columnspacing=1.2,
        handlelength=2.2,
    )


def say_if_undefined(axes: Axes, curve: Curve) -> None:
    """Write a remark into an axes without any defined value."""
    if np.isnan(known(curve.values)).all():
        look = {"fontsize": 9, "color": "0.3", "backgroundcolor": "white"}
        axes.text(0.5, 0.75, f"undefined for every {curve.x}", look, transform=axes.transAxes, ha="center", va="center")


def footnotes(figure: Figure, notes: Collection[str]) -> None:
    """Write notes below the figure."""
    if notes:
        width = int(16 * figure.get_figwidth())
        lines = [line for note in notes for line in textwrap.wrap(clean(note, LONG), width)]
        figure.supxlabel("\n".join(lines), fontsize=SMALL, parse_math=False)
        make_room(figure, len(lines))
