"""Learned weights on the attention to label words (Label Words are Anchors, sec. 3.1)."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report.collect import Run
from anchorflow.report.drawing import (
    BLUE,
    Bars,
    canvas,
    count_from_one,
    filled,
    grouped_bars,
    known,
    line,
    matrix,
    say_if_undefined,
)
from anchorflow.report.per_query import Scores, Unit, by_unit, of_predictions, right
from anchorflow.report.view import Panel, View
from anchorflow.results import Record, Result

NAMES_ON_AN_AXIS = 12
VARIANTS = ("vanilla", "reweighted")


def train_loss(result: Result, title: str) -> Figure | None:
    """The loss of every epoch; None if a saved β was used."""
    if "train_loss" not in result.curves:
        return None
    figure, (axes,) = canvas(title)
    loss(axes, result)
    return figure


def loss(axes: Axes, result: Result) -> bool:
    """The training loss of every epoch; False if a saved β was used."""
    if "train_loss" not in result.curves:
        return False
    curve = result.curves["train_loss"]
    line(axes, curve, color=BLUE)
    banded = curve.stderr is not None and not np.isnan(known(curve.stderr)).all()
    axes.set_ylabel("training loss (mean ± standard error)" if banded else "mean training loss")
    count_from_one(axes, curve)
    say_if_undefined(axes, curve)
    return True


def accuracies(axes: Axes, result: Result) -> None:
    """Accuracy without and with the learned weights (table 1)."""
    names = [f"{variant}/accuracy" for variant in VARIANTS]
    of_variants = [[found.get(name, math.nan) for name in names] for found in (result.metrics, result.stderr)]
    grouped_bars(axes, VARIANTS, [Bars("accuracy", of_variants[0], filled(BLUE), of_variants[1])])
    axes.set(ylabel="accuracy", ylim=(0, 1.05))


def beta(result: Result, title: str) -> Figure | None:
    """The mean β of every head; a head with β above 0 attends more to label words than in the untouched model."""
    if "beta" not in result.tables:
        return None
    table = result.tables["beta"]
    width, height = 2.6 + min(10.0, 0.22 * len(table.columns)), max(3.0, min(9.0, 1.8 + 0.13 * len(table.rows)))
    figure, (axes,) = canvas(title, width=width, height=height)
    largest = float(np.nanmax([*np.abs(known(table.values)).flat, 1e-6]))
    image = matrix(axes, table, cmap="RdBu_r", limits=(-largest, largest), numbers=False)
    axes.invert_yaxis()  # the first layer is at the bottom
    for names, place in ((table.columns, axes.set_xticks), (table.rows, axes.set_yticks)):
        step = math.ceil(len(names) / NAMES_ON_AN_AXIS)
        place(range(0, len(names), step), names[::step])
    axes.set(xlabel="head", ylabel="layer")
    figure.colorbar(image, label="mean β over demonstrations")
    return figure


def scores(run: Run, records: Sequence[Record]) -> Scores:
    """Also the gain: 1 if the learned weights correct a prediction, -1 if they spoil it, else 0."""
    vanilla, reweighted = (right(records, variant).astype(float) for variant in VARIANTS)
    units: list[Unit] = [(run.seed, record[run.unit], record["label"]) for record in records]
    return {**of_predictions(run, records), "gain": by_unit(units, reweighted - vanilla)}


VIEW = View(
    figures={"train_loss": train_loss, "beta": beta},
    panels={"reweighting": Panel(accuracies), "train_loss": Panel(loss)},
    headline=("vanilla/accuracy", "reweighted/accuracy"),
    default_variant="reweighted",
    scores=scores,
)
