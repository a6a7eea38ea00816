"""How well attention to label words predicts the answer (Label Words are Anchors, fig. 5)."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report.averages import over_datasets
from anchorflow.report.drawing import (
    BLUE,
    FAINT,
    ORANGE,
    beside,
    canvas,
    count_from_one,
    footnotes,
    known,
    line,
    say_if_undefined,
)
from anchorflow.report.view import Panel, View
from anchorflow.results import Curve, Result, metrics


def areas(result: Result, title: str) -> Figure:
    """AUCROC of every layer, and below it the share R of all layers up to it."""
    figure, (above, below) = canvas(title, height=4.6, rows=2, sharex=True)
    area(above, result)
    above.set_xlabel("")
    contribution(below, result)
    footnotes(figure, result.notes)
    return figure


def area(axes: Axes, result: Result) -> None:
    """AUCROC of every layer."""
    curve = result.curves["AUCROC"]
    beside(axes, 0.5, "chance")
    line(axes, curve, color=BLUE)
    errors = 0 if curve.stderr is None else np.nan_to_num(known(curve.stderr))
    low = np.nanmin([0.45, *(known(curve.values) - errors)])
    axes.set(ylabel=r"$\mathrm{AUCROC}_l$", ylim=(max(-0.02, low - 0.05), 1.02))
    count_from_one(axes, curve)
    say_if_undefined(axes, curve)


def contribution(axes: Axes, result: Result) -> None:
    """The share R of the layers up to each."""
    curve = result.curves["R"]
    axes.axhline(0, **FAINT)  # no label: with a large range of R it would overlap that of 1
    beside(axes, 1, "all")
    line(axes, curve, color=ORANGE)
    axes.set_ylabel("$R_l$\n(share of layers 1 to $l$)")
    count_from_one(axes, curve)
    say_if_undefined(axes, curve)


def averaged(results: Mapping[str, Result]) -> Result:
    """The mean AUCROC over datasets, and R of that mean: R is a ratio, so its own mean would be dominated by outliers.

    R is undefined where it is undefined for every dataset.
    """
    found = over_datasets(results)
    area = found.curves["AUCROC"]
    undefined = all(np.isnan(known(result.curves["R"].values)).all() for result in results.values())
    of_mean = [float("nan")] * len(area.at) if undefined else metrics.cumulative_contribution(area.values)
    contribution = Curve(area.x, area.at, of_mean)
    notes = [note for note in found.notes if not note.startswith("R ")]
    return replace(found, curves={**found.curves, "R": contribution}, notes=notes)


VIEW = View(
    figures={"attention_prediction": areas},
    panels={"AUCROC": Panel(area), "R": Panel(contribution)},
    headline=("accuracy",),
    contributions={"R": "AUCROC"},
    thirds=("AUCROC",),
    thirds_ahead=("AUCROC",),
    averaged=averaged,
)
