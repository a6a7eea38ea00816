"""Which classes are confused, and whether probabilities are calibrated."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report.drawing import BLUE, FAINT, canvas, class_names, known, legend_below, matrix, matrix_size
from anchorflow.report.view import Panel, View
from anchorflow.results import Result


def confusion(result: Result, title: str) -> Figure:
    """The confusion matrix, as shares of the true class."""
    table = result.tables["confusion"]
    figure, (axes,) = canvas(title, *matrix_size(table.rows))
    image = matrix(axes, table)
    class_names(axes, table.rows)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, label="share of the true class")
    return figure


def reliability(result: Result, title: str) -> Figure:
    """Accuracy against confidence; calibrated probabilities lie on the diagonal."""
    figure, (axes,) = canvas(title, width=4.2, height=3.8)
    bins(axes, result)
    legend_below(figure, axes, columns=2)
    return figure


def bins(axes: Axes, result: Result) -> None:
    """Accuracy and share of queries in every bin of confidence."""
    curve, share = result.curves["reliability"], known(result.curves["confidence_share"].values)
    axes.plot([0, 1], [0, 1], **FAINT)
    filled = np.nan_to_num(share) > 0
    x, y = known(curve.at)[filled], known(curve.values)[filled]
    axes.bar(x, share[filled], width=0.09, color="0.85", label="share of queries")
    axes.plot(x, y, color=BLUE, marker="o", clip_on=False, label="accuracy")
    axes.set(xlabel="probability of the predicted label", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))


VIEW = View(
    figures={"confusion": confusion, "reliability": reliability},
    panels={"reliability": Panel(bins, errors=False)},
    headline=("accuracy", "macro_f1", "ece"),
    diagonal=("reliability",),
    headings={"confusion": "share of the true class (rows) predicted as (columns)"},
)
