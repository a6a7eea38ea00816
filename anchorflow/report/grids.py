"""The papers' figures over models and datasets: one panel per cell, drawn like that of a single run."""

import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from anchorflow.report import plain
from anchorflow.report.cells import Cell, by_place
from anchorflow.report.drawing import SMALL, canvas, footnotes, make_room, spaced
from anchorflow.report.figures import named
from anchorflow.report.tables.sheets import LONG, clean
from anchorflow.report.view import Panel, attempt
from anchorflow.results import Result

MOST_ROWS, MOST_COLUMNS = 8, 9
"""The most panels per page; further ones go on the next."""
MOST_NOTES = 6
T = TypeVar("T")


@dataclass(frozen=True)
class Grid:
    """A figure to draw: `panels` are rows of titles and results, None where there is no run."""

    name: str
    title: str
    panels: Sequence[Sequence[tuple[str, Result] | None]]
    panel: Panel

    def draw(self, problems: list[str]) -> Figure | None:
        """Draw the figure; None if no result has the numbers. A panel that fails stays empty and is added to `problems`."""
        rows, columns = len(self.panels), len(self.panels[0])
        width = 4.6 if columns == 1 else 3.1 if columns == 2 else 2.4 if columns <= 4 else 1.9
        height = 2.9 if rows == columns == 1 else 2.2 if columns <= 4 else 1.7
        size = max(4.8, 0.6 + width * columns), 1.1 + height * rows
        figure, panels = canvas(self.title, *size, rows=rows, columns=columns)
        drawn: list[Axes] = []
        said: dict[str, list[str]] = {}
        failed: dict[str, list[str]] = {}
        for axes, panel in zip(panels, [panel for row in self.panels for panel in row], strict=True):
            if panel is None or not self._drawn(axes, *panel, failed):
                axes.clear()
                axes.set_axis_off()
                continue
            title, result = panel
            drawn.append(axes)
            for note in result.notes:
                said.setdefault(clean(note, 200), []).append(title)
            axes.set_title(_lines(title, int(15 * width)), fontsize=SMALL, parse_math=False, y=1.01)
            axes.tick_params(labelsize=SMALL)
            for axis in (axes.xaxis, axes.yaxis):
                axis.label.set_fontsize(SMALL)
                locator = axis.get_major_locator()
                if columns > 4 and isinstance(locator, MaxNLocator):
                    locator.set_params(nbins=4)
        problems += [f"{'; '.join(where)}: {problem}" for problem, where in failed.items()]
        if not drawn:
            return None
        _outer_labels(panels, drawn, columns)
        notes = [note if len(where) == len(drawn) else f"{'; '.join(where)}: {note}" for note, where in said.items()]
        if len(notes) > MOST_NOTES:
            notes[MOST_NOTES - 1 :] = [f"… and {len(notes) - MOST_NOTES + 1} more notes"]
        _legend(figure, drawn, below=not notes)
        footnotes(figure, notes)
        return figure

    def _drawn(self, axes: Axes, title: str, result: Result, failed: dict[str, list[str]]) -> bool:
        problems: list[str] = []
        drawn = attempt(f"the figure {self.name}", lambda: self.panel.draw(axes, result), problems)
        for problem in problems:
            failed.setdefault(problem, []).append(title)
        return drawn is not False and not problems


def _lines(title: str, most: int) -> str:
    """A title on one line, or with the model on a line above the rest, which may take two."""
    model, _, rest = title.partition(", ")
    if len(title) <= most or not rest:
        return clean(title, most)
    lines = textwrap.wrap(clean(rest, LONG), most, max_lines=2, placeholder=" …")
    return "\n".join([clean(model, most), *lines])


def grids(cells: Sequence[Cell], settings: Mapping[str, Any], problems: list[str]) -> Iterator[Grid]:
    """The figures of one plane of cells, with models down and datasets across; several cells of a dataset are side by side."""
    of_places = by_place(cells)
    models, datasets = (sorted({place[i] for place in of_places}) for i in (0, 1))
    places = {(*place, i): found for place, own in of_places.items() for i, found in enumerate(own)}
    columns = [
        (dataset, i)
        for dataset in datasets
        for i in range(max(len(own) for place, own in of_places.items() if place[1] == dataset))
    ]
    pages = [(rows, across) for rows in _parts(models, MOST_ROWS) for across in _parts(columns, MOST_COLUMNS)]
    for name, panel in panels_of(cells, problems).items():
        for number, (rows, across) in enumerate(pages, start=1):
            found = [[places.get((model, *column)) for column in across] for model in rows]
            panels = [
                [one and (", ".join(filter(None, [*one[1].place, one[0]])), one[1].result) for one in row]
                for row in found
            ]
            shown = [one[1] for row in found for one in row if one]
            page = f"_page{number}" if number > 1 else ""
            if shown:
                yield Grid(named(name, settings) + page, title(name, panel, shown, settings), panels, panel)


def panels_of(cells: Sequence[Cell], problems: list[str]) -> Mapping[str, Panel]:
    """The panels for an experiment's cells, by file name."""
    view = cells[0].view
    if view.panels is None:
        return plain.panels(view, cells)
    if not callable(view.panels):
        return view.panels
    choose = view.panels
    return attempt(f"the figures of {view.experiment}", lambda: choose(cells), problems) or {}


def _legend(figure: Figure, panels: Sequence[Axes], below: bool) -> None:
    """Draw one legend for all panels if there is more than one name; on the right if there are notes below."""
    entries: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    if len(entries) < 2:
        return
    handles, labels = list(entries.values()), list(entries)
    look: dict[str, Any] = {"frameon": False, "fontsize": SMALL}
    if below:
        columns = max(1, int(figure.get_figwidth() / max(2.2, 0.6 + 0.06 * max(map(len, labels)))))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, **look)
        make_room(figure, math.ceil(len(entries) / columns))
    else:
        figure.set_figwidth(figure.get_figwidth() + 0.6 + 0.06 * max(map(len, labels)))
        figure.legend(handles, labels, loc="outside right center", **look)


def _outer_labels(panels: Sequence[Axes], drawn: Sequence[Axes], columns: int) -> None:
    """Show axis labels once: at the first panel of a row if all agree, at the last of a column if all agree."""
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
    """The tick labels of the x axis: names of bars, or its limits, which determine them."""
    return axes.get_xlim(), *getattr(axes.xaxis.get_major_formatter(), "seq", ())


def told(settings: Mapping[str, Any]) -> list[str]:
    """The settings as written in a title."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def title(name: str, panel: Panel, cells: Sequence[Cell], settings: Mapping[str, Any]) -> str:
    """The title of a figure: its name, the settings of its plane, the seeds, and what errors are over."""
    seeds = sorted({len(cell.runs) for cell in cells})
    counted = f"{seeds[0]} seed{'s' * (seeds[0] > 1)}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    over = " or ".join(dict.fromkeys(cell.over for cell in cells))
    parts = [spaced(name), *told(settings), counted]
    errors = f"; errors (where known) are standard errors over {over}" if panel.errors else ""
    remark = f"; {panel.remark}" if panel.remark else ""
    return clean(", ".join(parts), 240) + errors + remark


def _parts(names: Sequence[T], most: int) -> list[Sequence[T]]:
    return [names[i : i + most] for i in range(0, len(names), most)]
