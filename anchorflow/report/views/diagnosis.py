"""Which classes get confused, and which confusion the anchors' keys predict (Label Words are Anchors, fig. 6)."""

from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report.cells import Cell
from anchorflow.report.drawing import (
    BLUE,
    ORANGE,
    SMALL,
    beside,
    canvas,
    class_names,
    count_from_one,
    footnotes,
    line,
    matrix,
    matrix_size,
    say_if_undefined,
)
from anchorflow.report.tables.sheets import clean
from anchorflow.report.view import Panel, View
from anchorflow.results import Result


def confusion_matrices(result: Result, title: str) -> Figure:
    """The confusion of each pair of classes as measured and as predicted, on one scale."""
    shown = {
        "confusion": "measured:\nAUC of telling the classes apart",
        "predicted_confusion": f"predicted:\ndistance of anchor keys, layer {result.metrics['layer']:g}",
    }
    classes = result.tables["confusion"].rows
    figure, panels = canvas(title, *matrix_size(classes, panels=2), columns=2, sharey=True)
    for axes, (name, heading) in zip(panels, shown.items(), strict=True):
        image = matrix(axes, result.tables[name])
        class_names(axes, classes)
        axes.set_title(heading, fontsize=8)
    figure.colorbar(image, ax=panels, label="small = easily confused")
    footnotes(figure, result.notes)
    return figure


def spearman_by_layer(result: Result, title: str) -> Figure:
    """How well the keys of each layer predict the confusion, and which layer the matrices show."""
    layer = result.metrics["layer"]
    figure, (axes,) = canvas(title)
    correlation(axes, result)
    above = axes.get_xaxis_transform()
    axes.text(
        layer, 1.02, f"layer {layer:g}, of the matrices", transform=above, ha="center", fontsize=SMALL, color=ORANGE
    )
    footnotes(figure, result.notes)
    return figure


def correlation(axes: Axes, result: Result) -> None:
    """The rank correlation of every layer; a line marks the layer of the matrices."""
    curve = result.curves["spearman_by_layer"]
    beside(axes, 0, "none")
    line(axes, curve, color=BLUE)
    axes.axvline(result.metrics["layer"], color=ORANGE, linewidth=1, linestyle="--")
    axes.set(ylabel="rank correlation (Spearman),\nmeasured and predicted", ylim=(-1.05, 1.05))
    count_from_one(axes, curve)
    say_if_undefined(axes, curve)


def matrices_of_cells(cells: Sequence[Cell]) -> list[tuple[str, Callable[[], Figure]]]:
    """The confusion matrices of each cell."""
    return [
        (
            f"confusion_{cell.model}_{cell.dataset}",
            partial(
                confusion_matrices, cell.result, clean(f"{', '.join(cell.place)}, mean over {len(cell.runs)} seeds")
            ),
        )
        for cell in cells
    ]


VIEW = View(
    figures={"confusion_matrices": confusion_matrices, "spearman_by_layer": spearman_by_layer},
    panels={"spearman_by_layer": Panel(correlation)},
    headline=("accuracy", "spearman"),
    headings={
        "confusion": "measured: AUC of telling the classes apart (small = easily confused)",
        "predicted_confusion": "predicted: distance of anchor keys (small = easily confused)",
    },
    drawings=matrices_of_cells,
)
