"""Output for a paper: figures of a column's or page's width without titles, and tables in the papers' layout."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from anchorflow.report.cells import Cell
from anchorflow.report.tables.pivot import pivots
from anchorflow.report.tables.sheets import Sheet

COLUMN, PAGE = 3.3, 6.8
"""The widths in inches of one of two columns, and of a page."""
WIDE = 5.0
"""The width in inches above which a figure takes the whole page."""


def fitted(figure: Figure) -> Figure:
    """The figure at the width of a column or a page, without its title, whose content belongs in the caption."""
    width, height = figure.get_size_inches()
    target = COLUMN if width <= WIDE else PAGE
    if figure.get_suptitle():
        figure.suptitle("")
    figure.set_size_inches(target, height * min(1.0, max(target / width, SQUEEZED)))
    return figure


SQUEEZED = 0.75
"""The share of its height that a figure keeps: its texts keep their size."""


def tables(cells: Sequence[Cell]) -> list[Sheet]:
    """The tables of each experiment, in the cells' order."""
    experiments = dict.fromkeys(cell.experiment for cell in cells)
    return [sheet for name in experiments for sheet in pivots([cell for cell in cells if cell.experiment == name])]
