"""The figures of a single run, and how figures are saved."""

import json
import logging
import re
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
LONGEST = 80
"""Characters of a file's name."""


def draw(view: View, result: Result, title: str) -> dict[str, Figure]:
    """The figures of a result by file name, as its experiment's view draws them.

    Left out are those for which the result rightly has no numbers, and, with a warning, those that cannot be drawn.
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
    """Each figure as PNG (for the screen) and PDF (for the paper), or as one of these; the first kind's paths come back."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for kind, content in _rendered(figure).items():
            if kind in kinds:
                write_atomically(folder / f"{name}.{kind}", content)
    return [folder / f"{name}.{kinds[0]}" for name in figures]


def named(what: str, settings: Mapping[str, Any]) -> str:
    """The name of what shows runs on these settings: shares_shots_per_class-5."""
    return "_".join([what, *(f"{name}-{_value(value)}" for name, value in settings.items())])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(map(_value, value))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


class FileNames:
    """Names for files, each once: letters, digits, - _ . and not too long.

    What would lose more than spaces and the usual signs keeps a hash of itself.
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
    """Arranged and drawn once for the first format, drawn once more for the other: savefig does each four times."""
    png, pdf = BytesIO(), BytesIO()
    figure.set_dpi(160)
    FigureCanvasAgg(figure).print_png(png)  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")
    FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})  # type: ignore[no-untyped-call]
    return {"png": png.getvalue(), "pdf": pdf.getvalue()}
