"""The papers' figures over models and datasets: a panel for each cell, drawn as that of a single run."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report import (
    attention_prediction,
    classification,
    compression,
    diagnosis,
    isolation,
    label_relationships,
    reweighting,
    saliency,
)
from anchorflow.report.cells import Cell
from anchorflow.report.drawing import SMALL, canvas, footnotes
from anchorflow.report.sheets import clean
from anchorflow.results import Result

Panel = Callable[[Axes, Result], None]
MOST_ROWS, MOST_COLUMNS = 8, 9
"""Panels of one page; more go on the next."""
MOST_NOTES = 6


def _slanted(draw: Panel) -> Panel:
    """With the names on the x axis where they have room beside others."""

    def drawn(axes: Axes, result: Result) -> None:
        draw(axes, result)
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")

    return drawn


PANELS: dict[str, dict[str, Panel]] = {
    "saliency": {"saliency_shares": saliency.shares, "saliency_means": saliency.means},
    "classification": {"reliability": classification.bins},
    "isolation": {
        "isolation_label_loyalty": partial(isolation.bars, measure="label_loyalty"),
        "isolation_word_loyalty": partial(isolation.bars, measure="word_loyalty"),
    },
    "attention_prediction": {"AUCROC": attention_prediction.area, "R": attention_prediction.contribution},
    "reweighting": {"reweighting": reweighting.accuracies, "train_loss": reweighting.loss},
    "compression": {
        "compression": _slanted(compression.kept_predictions),
        "compression_speedup": _slanted(compression.speedups),
    },
    "diagnosis": {"spearman_by_layer": diagnosis.correlation},
    "label_relationships": {
        f"label_relationships_{measure}": partial(label_relationships.regimes, measure=measure)
        for measure in label_relationships.MEASURES
    },
}


def grids(cells: Sequence[Cell], settings: Mapping[str, str]) -> Iterator[tuple[str, Figure]]:
    """The figures of one plane of cells, models down and datasets across, by name."""
    panels = dict(PANELS.get(cells[0].experiment, {}))
    if cells[0].experiment == "label_relationships":
        turning = dict.fromkeys(name for cell in cells for name in label_relationships.changing(cell.result))
        for name in turning:
            for measure in ("accuracy", "log_likelihood"):
                panels[f"{name}_{measure}"] = partial(label_relationships.sides, name=name, measure=measure)
    models, datasets = (list(dict.fromkeys(cell.place[i] for cell in cells)) for i in (0, 1))
    places = {cell.place: cell for cell in cells}
    pages = [(rows, columns) for rows in _parts(models, MOST_ROWS) for columns in _parts(datasets, MOST_COLUMNS)]
    for name, draw in panels.items():
        for number, (rows, columns) in enumerate(pages, start=1):
            page = [[places.get((model, dataset)) for dataset in columns] for model in rows]
            figure = _grid(page, draw, _title(name, cells, settings))
            if figure is not None:
                yield name if number == 1 else f"{name}_page{number}", figure


def _grid(page: Sequence[Sequence[Cell | None]], draw: Panel, title: str) -> Figure | None:
    """None where no cell has the numbers."""
    rows, columns = len(page), len(page[0])
    width = 4.6 if columns == 1 else 3.1 if columns == 2 else 2.4 if columns <= 4 else 1.9
    height = 2.9 if rows == columns == 1 else 2.2 if columns <= 4 else 1.7
    size = max(4.8, 0.6 + width * columns), 1.1 + height * rows
    figure, panels = canvas(title, *size, rows=rows, columns=columns)
    drawn, notes = [], []
    for axes, cell in zip(panels, [cell for row in page for cell in row], strict=True):
        if cell is None or not _drawn(axes, draw, cell.result):
            axes.clear()
            axes.set_axis_off()
            continue
        drawn.append(axes)
        notes += [f"{cell.model}, {cell.dataset}: {clean(note, 200)}" for note in cell.result.notes]
        axes.set_title(clean(", ".join(cell.place), int(15 * width)), fontsize=SMALL, parse_math=False)
        axes.tick_params(labelsize=SMALL)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_fontsize(SMALL)
    if not drawn:
        return None
    _outer_labels(panels, drawn, columns)
    entries = {label: handle for axes in drawn for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if len(entries) > 1:
        look: dict[str, Any] = {"frameon": False, "fontsize": SMALL, "ncols": max(1, int(size[0] / 2.2))}
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", **look)
    if len(notes) > MOST_NOTES:
        notes[MOST_NOTES - 1 :] = [f"… and {len(notes) - MOST_NOTES + 1} more notes"]
    footnotes(figure, notes)
    return figure


def _drawn(axes: Axes, draw: Panel, result: Result) -> bool:
    try:
        draw(axes, result)
    except LookupError:  # a saved β has no training loss
        return False
    return True


def _outer_labels(panels: Sequence[Axes], drawn: Sequence[Axes], columns: int) -> None:
    """The names of the axes at the first panel of a row and the last of a column; the same numbers are not said twice."""
    alike = len({axes.get_ylim() for axes in drawn}) == 1
    for i, axes in enumerate(panels):
        if any(other in drawn for other in panels[i - i % columns : i]):
            axes.set_ylabel("")
            if alike:
                axes.tick_params(labelleft=False)
        if any(other in drawn for other in panels[i + columns :: columns]):
            axes.set_xlabel("")


def _title(name: str, cells: Sequence[Cell], settings: Mapping[str, str]) -> str:
    seeds = sorted({len(cell.runs) for cell in cells})
    counted = f"{seeds[0]} seed{'s' * (seeds[0] > 1)}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    over = " or ".join(dict.fromkeys(cell.over for cell in cells))
    parts = [name.replace("_", " "), *(f"{key}={value}" for key, value in settings.items()), counted]
    return clean(", ".join(parts), 240) + f"; errors (where known) are standard errors over {over}"


def _parts(names: Sequence[str], most: int) -> list[Sequence[str]]:
    """As few parts as possible of about the same size."""
    size = math.ceil(len(names) / math.ceil(len(names) / most))
    return [names[i : i + size] for i in range(0, len(names), size)]
