"""The papers' figures, drawn from a Result alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anchorflow.results import Result

# Okabe and Ito's colours, which people with any colour vision can tell apart; line styles tell them apart in print.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
FLOW_STYLES = {
    "S_wp": (r"$S_{wp}$  words → label words", BLUE, "-"),
    "S_pq": (r"$S_{pq}$  label words → target", ORANGE, "--"),
    "S_ww": (r"$S_{ww}$  words → words", GREEN, ":"),
}


def draw(experiment: str, result: Result, title: str) -> dict[str, Figure]:
    """The figures of an experiment by file name; none for an experiment without figures."""
    return {name: make(result, title) for name, make in FIGURES.get(experiment, {}).items()}


def save(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Each figure as PNG (for the screen) and PDF (for the paper); the PNGs' paths come back."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=160)
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    return [folder / f"{name}.png" for name in figures]


def flow_shares(result: Result, title: str) -> Figure:
    """Share of each kind of flow over the layers (Label Words are Anchors, fig. 3)."""
    return _flows(result, title, "_share", "share of saliency")


def flow_means(result: Result, title: str) -> Figure:
    """Mean saliency of each kind over the layers, before shares are taken."""
    figure = _flows(result, title, "", "mean saliency")
    positive = [value for flow in FLOW_STYLES for value in result.curves[flow].values if value > 0]
    if positive:  # an exact zero (S_wp of the last layer, where only the target's row counts) has no place here
        figure.axes[0].set_yscale("log")
        figure.axes[0].set_ylim(bottom=min(positive) / 2)
    return figure


def confusion(result: Result, title: str) -> Figure:
    """Which class is taken for which, as shares of the true class."""
    table = result.tables["confusion"]
    values = np.array(table.values, dtype=float)
    figure, axes = _canvas(title, width=1.6 + 0.75 * len(table.columns), height=1.4 + 0.6 * len(table.rows))
    image = axes.imshow(np.nan_to_num(values), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(table.columns)), table.columns, rotation=30, ha="right")
    axes.set_yticks(range(len(table.rows)), table.rows)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(False)
    for (row, column), value in np.ndenumerate(values):
        shown = "–" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, shown, ha="center", va="center", color="black" if value > 0.5 else "white", fontsize=8)
    figure.colorbar(image, label="share of the true class")
    return figure


def reliability(result: Result, title: str) -> Figure:
    """Accuracy against confidence: on the diagonal a probability means what it says."""
    curve, share = result.curves["reliability"], result.curves["confidence_share"]
    figure, axes = _canvas(title, width=4.2, height=3.6)
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    filled = [(x, y, s) for x, y, s in zip(curve.at, curve.values, share.values, strict=True) if s > 0]
    x, y, s = np.array(filled).T
    axes.bar(x, s, width=0.09, color="0.85", label="share of queries")
    axes.plot(x, y, color=BLUE, marker="o", label="accuracy")
    axes.set(xlabel="probability of the predicted label", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False)
    return figure


def _flows(result: Result, title: str, suffix: str, ylabel: str) -> Figure:
    figure, axes = _canvas(title)
    for flow, (label, colour, style) in FLOW_STYLES.items():
        curve = result.curves[flow + suffix]
        x, y = np.array(curve.at), np.array(curve.values, dtype=float)
        if not suffix:
            y[y == 0] = np.nan
        axes.plot(x, y, color=colour, linestyle=style, linewidth=2, label=label)
        if curve.stderr is not None:
            band = np.array(curve.stderr, dtype=float)
            axes.fill_between(x, y - band, y + band, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="layer", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0.5, max(x) + 0.5)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=7.5, columnspacing=1.2, handlelength=2.2)
    return figure


def _canvas(title: str, width: float = 5.2, height: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


FIGURES: dict[str, dict[str, Callable[[Result, str], Figure]]] = {
    "saliency": {"saliency_shares": flow_shares, "saliency_means": flow_means},
    "classification": {"confusion": confusion, "reliability": reliability},
}
