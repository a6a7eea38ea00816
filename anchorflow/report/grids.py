"""The papers' figures over models and datasets: a panel for each cell, drawn as that of a single run."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anchorflow.report.cells import Cell
from anchorflow.report.drawing import SMALL, canvas, footnotes, make_room
from anchorflow.report.tables.sheets import clean
from anchorflow.report.views import (
    attention_prediction,
    classification,
    compression,
    diagnosis,
    isolation,
    label_relationships,
    reweighting,
    saliency,
)
from anchorflow.results import Result

Panel = Callable[[Axes, Result], None]
MOST_ROWS, MOST_COLUMNS = 8, 9
"""Panels of one page; more go on the next."""
MOST_NOTES = 6
WITHOUT_ERRORS = ("compression_speedup", "reliability")
"""Figures that show none."""


def slanted(axes: Axes, result: Result, draw: Panel) -> None:
    """The panel with the names on its x axis where they have room beside others."""
    draw(axes, result)
    for label in axes.get_xticklabels():
        label.set(rotation=30, ha="right", rotation_mode="anchor")


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
        "compression": partial(slanted, draw=compression.kept_predictions),
        "compression_speedup": partial(slanted, draw=compression.speedups),
    },
    "diagnosis": {"spearman_by_layer": diagnosis.correlation},
    "label_relationships": {
        f"label_relationships_{measure}": partial(label_relationships.regimes, measure=measure)
        for measure in ("accuracy", "log_likelihood")
    },
}


@dataclass(frozen=True)
class Grid:
    """A figure that is still to be drawn: `panels` are rows of a panel's title and result, None where there is no run."""

    name: str
    title: str
    panels: Sequence[Sequence[tuple[str, Result] | None]]
    draw: Panel

    def figure(self) -> Figure | None:
        """None where no result has the numbers."""
        rows, columns = len(self.panels), len(self.panels[0])
        width = 4.6 if columns == 1 else 3.1 if columns == 2 else 2.4 if columns <= 4 else 1.9
        height = 2.9 if rows == columns == 1 else 2.2 if columns <= 4 else 1.7
        size = max(4.8, 0.6 + width * columns), 1.1 + height * rows
        figure, panels = canvas(self.title, *size, rows=rows, columns=columns)
        drawn: list[Axes] = []
        said: dict[str, list[str]] = {}
        for axes, panel in zip(panels, [panel for row in self.panels for panel in row], strict=True):
            if panel is None or not _drawn(axes, self.draw, panel[1]):
                axes.clear()
                axes.set_axis_off()
                continue
            title, result = panel
            drawn.append(axes)
            for note in result.notes:
                said.setdefault(clean(note, 200), []).append(title)
            axes.set_title(clean(title, int(15 * width)), fontsize=SMALL, parse_math=False, y=1.01)
            axes.tick_params(labelsize=SMALL)
            for axis in (axes.xaxis, axes.yaxis):
                axis.label.set_fontsize(SMALL)
                locator = axis.get_major_locator()
                if columns > 4 and isinstance(locator, MaxNLocator):
                    locator.set_params(nbins=4)
        if not drawn:
            return None
        _outer_labels(panels, drawn, columns)
        notes = [note if len(where) == len(drawn) else f"{'; '.join(where)}: {note}" for note, where in said.items()]
        if len(notes) > MOST_NOTES:
            notes[MOST_NOTES - 1 :] = [f"… and {len(notes) - MOST_NOTES + 1} more notes"]
        _legend(figure, drawn, below=not notes)
        footnotes(figure, notes)
        return figure


def grids(cells: Sequence[Cell], settings: Mapping[str, str]) -> Iterator[Grid]:
    """The figures of one plane of cells, models down and datasets across."""
    models, datasets = (list(dict.fromkeys(cell.place[i] for cell in cells)) for i in (0, 1))
    results = {cell.place: (", ".join(cell.place), cell.result) for cell in cells}
    pages = [(rows, columns) for rows in _parts(models, MOST_ROWS) for columns in _parts(datasets, MOST_COLUMNS)]
    for name, draw in _panels(cells).items():
        for number, (rows, columns) in enumerate(pages, start=1):
            panels = [[results.get((model, dataset)) for dataset in columns] for model in rows]
            page = f"_page{number}" if len(pages) > 1 else ""
            yield Grid(name + page, _title(name, cells, settings), panels, draw)


def _panels(cells: Sequence[Cell]) -> dict[str, Panel]:
    """What is drawn of the experiment; of label_relationships, entropy beside flipped labels, and what changes side."""
    found = dict(PANELS.get(cells[0].experiment, {}))
    if cells[0].experiment == "label_relationships":
        if any("flipped/entropy" in cell.result.curves for cell in cells):
            found["label_relationships_entropy"] = partial(label_relationships.regimes, measure="entropy")
        for name in dict.fromkeys(name for cell in cells for name in label_relationships.changing(cell.result)):
            for measure in ("accuracy", "log_likelihood"):
                found[f"{name}_{measure}"] = partial(label_relationships.sides, name=name, measure=measure)
    return found


def _legend(figure: Figure, panels: Sequence[Axes], below: bool) -> None:
    """One for all panels, where there is more than one name; on the right where there are notes below."""
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    if len(entries) < 2:
        return
    handles, labels = list(entries.values()), list(entries)
    look: dict[str, Any] = {"frameon": False, "fontsize": SMALL}
    if below:
        columns = max(1, int(figure.get_figwidth() / 2.2))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, **look)
        make_room(figure, math.ceil(len(entries) / columns))
    else:
        figure.set_figwidth(figure.get_figwidth() + 0.6 + 0.06 * max(map(len, labels)))
        figure.legend(handles, labels, loc="outside right center", **look)


def _drawn(axes: Axes, draw: Panel, result: Result) -> bool:
    try:
        draw(axes, result)
    except (LookupError, ValueError):  # not all results have all curves: a saved β has no training loss
        return False
    return True


def _outer_labels(panels: Sequence[Axes], drawn: Sequence[Axes], columns: int) -> None:
    """What stands along axes, once: at the first panel of a row where all agree, at the last of a column where it agrees."""
    alike = len({axes.get_ylim() for axes in drawn}) == 1
    for i, axes in enumerate(panels):
        if any(other in drawn for other in panels[i - i % columns : i]):
            axes.set_ylabel("")
            if alike:
                axes.tick_params(labelleft=False)
        below = [other for other in panels[i + columns :: columns] if other in drawn]
        if below:
            axes.set_xlabel("")
            if {_places(axes)} == set(map(_places, below)):
                axes.tick_params(labelbottom=False)


def _places(axes: Axes) -> tuple[Any, ...]:
    """What is written along the x axis: the names of bars, or what follows from its limits."""
    return axes.get_xlim(), *getattr(axes.xaxis.get_major_formatter(), "seq", ())


def _title(name: str, cells: Sequence[Cell], settings: Mapping[str, str]) -> str:
    seeds = sorted({len(cell.runs) for cell in cells})
    counted = f"{seeds[0]} seed{'s' * (seeds[0] > 1)}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    over = " or ".join(dict.fromkeys(cell.over for cell in cells))
    parts = [name.replace("_", " "), *(f"{key}={value}" for key, value in settings.items()), counted]
    errors = "" if name in WITHOUT_ERRORS else f"; errors (where known) are standard errors over {over}"
    smooth = f"; moving averages over {label_relationships.WINDOW}" * (cells[0].experiment == "label_relationships")
    return clean(", ".join(parts), 240) + errors + smooth


def _parts(names: Sequence[str], most: int) -> list[Sequence[str]]:
    """As few parts as possible of about the same size."""
    size = math.ceil(len(names) / math.ceil(len(names) / most))
    return [names[i : i + size] for i in range(0, len(names), size)]
