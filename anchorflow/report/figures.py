"""Draw the figures of a single run, and save figures."""

import json
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from anchorflow.report import plain
from anchorflow.report.view import View, asking, attempt
from anchorflow.results import Result, write_atomically
from anchorflow.settings import digest

log = logging.getLogger(__name__)
DPI, WIDEST = 160, 1920
"""Resolution of a PNG, and its most pixels across."""
LONGEST = 80
"""The most characters in the name of a file."""


def draw(view: View, result: Result, title: str) -> dict[str, Figure]:
    """The figures of a result by file name, drawn by its experiment's view.

    Figures for which the result legitimately has no numbers are left out, and, with a warning, those that fail.
    """
    problems = [view.problem] if view.problem else []
    result = asking(view.experiment, result)
    figures = plain.figures(view, result) if view.figures is None else view.figures
    named, found = FileNames(), {}
    for name, make in figures.items():
        figure = attempt(f"the figure {name}", partial(make, result, title), problems)
        if figure is not None:
            found[named(name)] = figure
    for problem in dict.fromkeys(problems):
        log.warning("%s", problem)
    return found


def save(figures: Mapping[str, Figure], folder: Path, kinds: Sequence[str] = ("png", "pdf")) -> list[Path]:
    """Save each figure as PNG (for the screen) and PDF (for papers), or one of them; returns the paths of the first kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for kind, content in _rendered(figure).items():
            if kind in kinds:
                write_atomically(folder / f"{name}.{kind}", content)
    return [folder / f"{name}.{kinds[0]}" for name in figures]


def named(what: str, settings: Mapping[str, Any]) -> str:
    """The file name for runs with these settings: shares_shots_per_class-5."""
    return "_".join([what, *(f"{name}-{_value(value)}" for name, value in settings.items())])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_value, value))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


class FileNames:
    """Unique file names of limited length with letters, digits, - _ and .

    A name that would lose more than spaces and common punctuation gets a hash.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        safe = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).replace("-_", "_").strip(".-")
        if not 0 < len(safe) <= LONGEST or re.search(r"[^\w.\-+/=(), ]", name, flags=re.ASCII):
            safe = f"{safe[: LONGEST - 9]}-{digest(name.encode(errors='surrogatepass').hex())[:8]}"
        numbered = (safe if i == 1 else f"{safe}_{i}" for i in range(1, len(self._taken) + 2))
        found = next(name for name in numbered if name.lower() not in self._taken)
        self._taken.add(found.lower())
        return found


def _rendered(figure: Figure) -> dict[str, bytes]:
    """Lay out once and draw once per format; savefig would do each four times."""
    png, pdf = BytesIO(), BytesIO()
    figure.set_dpi(min(DPI, WIDEST / figure.get_figwidth()))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # a box stands for such a sign
        FigureCanvasAgg(figure).print_png(png, pil_kwargs={"compress_level": 4})  # type: ignore[no-untyped-call]
        figure.set_layout_engine("none")
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})  # type: ignore[no-untyped-call]
    return {"png": png.getvalue(), "pdf": pdf.getvalue()}
