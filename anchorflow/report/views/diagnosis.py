"""Measured confusion of classes, and the confusion predicted by the anchors' keys (Label Words are Anchors, fig. 6)."""

import textwrap
from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report.cells import Cell, by_place, planes
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
from anchorflow.report.figures import named
from anchorflow.report.grids import told
from anchorflow.report.tables.sheets import LONG, clean
from anchorflow.report.view import Drawing, Panel, View
from anchorflow.results import Result, counted


def confusion_matrices(result: Result, title: str) -> Figure:
    """The confusion of each pair of classes as measured and as predicted, on one scale."""
    return all_confusion_matrices([result], [title])


def all_confusion_matrices(results: Sequence[Result], titles: Sequence[str]) -> Figure:
    """The same for several results, one below the other."""
    width, height = matrix_size(max((result.tables["confusion"].rows for result in results), key=len), panels=2)
    alone = len(results) == 1
    figure, panels = canvas(titles[0] if alone else "", width, height * len(results), rows=len(results), columns=2)
    for row, (result, title) in enumerate(zip(results, titles, strict=True)):
        classes = result.tables["confusion"].rows
        shown = {
            "confusion": "measured:\nAUC of telling the classes apart",
            "predicted_confusion": f"predicted:\ndistance of anchor keys, layer {result.metrics['layer']:g}",
        }
        for column, (name, heading) in enumerate(shown.items()):
            axes = panels[2 * row + column]
            image = matrix(axes, result.tables[name])
            class_names(axes, classes)
            above = "" if alone or column else textwrap.fill(title, int(7 * width)) + "\n"
            axes.set_title(above + heading, fontsize=8, parse_math=False)
            axes.tick_params(labelleft=not column)
    figure.colorbar(image, ax=panels, label="small = easily confused")
    footnotes(figure, dict.fromkeys(note for result in results for note in result.notes))
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


def matrices_of_cells(cells: Sequence[Cell]) -> list[Drawing]:
    """The confusion matrices of each model and dataset, in one figure each."""
    found = []
    for settings, plane in planes(cells):
        for place, own in by_place(plane).items():
            above = [
                clean(", ".join(filter(None, [*place, apart, f"mean over {counted(len(cell.runs), 'seed')}"])), LONG)
                for apart, cell in own
            ]
            results = [cell.result for _, cell in own]
            name = named("_".join(["confusion", *place]), settings)
            title = clean(", ".join(["confusion", *place, *told(settings)]), LONG)
            found.append(Drawing(name, title, partial(all_confusion_matrices, results, above)))
    return found


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
