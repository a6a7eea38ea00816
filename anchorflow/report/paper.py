"""What goes into a paper: figures at the width of a column or a page, without titles, and tables as they are printed."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from anchorflow.report.cells import Cell
from anchorflow.report.tables.pivot import pivots
from anchorflow.report.tables.sheets import Sheet

COLUMN, PAGE = 3.3, 6.8
"""Inches: the width of a column of two, and of a page."""
WIDE = 5.0
"""Inches: a figure that is drawn wider than this takes the page."""


def fitted(figure: Figure) -> Figure:
    """The same at the width of a column or a page; what its title says belongs in the caption."""
    width, height = figure.get_size_inches()
    target = COLUMN if width <= WIDE else PAGE
    if figure.get_suptitle():
        figure.suptitle("")
    figure.set_size_inches(target, height * min(1.0, max(target / width, SQUEEZED)))
    return figure


SQUEEZED = 0.75
"""How much of its height a figure keeps: its texts keep their size."""


def tables(cells: Sequence[Cell]) -> list[Sheet]:
    """Those of each experiment, in the cells' order."""
    experiments = dict.fromkeys(cell.experiment for cell in cells)
    return [sheet for name in experiments for sheet in pivots([cell for cell in cells if cell.experiment == name])]
