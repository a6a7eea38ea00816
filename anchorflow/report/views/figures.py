"""For callers of before anchorflow.report.figures: to be removed with them."""

from matplotlib.figure import Figure

from anchorflow.report import figures
from anchorflow.report.figures import save
from anchorflow.report.view import view_of
from anchorflow.results import Result

__all__ = ["draw", "save"]


def draw(experiment: str, result: Result, title: str) -> dict[str, Figure]:
    """The figures of an experiment, whose view is found by its name."""
    return figures.draw(view_of(experiment), result, title)
