"""All files of a report, below one directory: the page, report.md, tables and figures."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from matplotlib.figure import Figure

from anchorflow.errors import UserError
from anchorflow.report.cells import Cell, into_cells, planes
from anchorflow.report.collect import Collection, collect
from anchorflow.report.grids import grids
from anchorflow.report.page.page import page as html_page
from anchorflow.report.tables import hypotheses, published
from anchorflow.report.tables import overview as tables
from anchorflow.report.tables.sheets import LONG, Sheet, clean, marked, to_csv, to_latex, to_markdown
from anchorflow.report.views import diagnosis, figures
from anchorflow.results import counted, write_atomically

FORMATS: dict[str, Callable[[Sheet], str]] = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
Drawing = Callable[[], Figure | None]
OfNames = Mapping[str, Sequence[Cell]]
"""The cells of every experiment, by its name."""
LISTING = ".files"
"""Names what a report has written, for the next one in the same place."""
MANY = 40
"""Cells from which on figures are drawn on several processors."""
MOST_PROCESSES = 8
SHOWN = 10
"""Lines of what was left out that are shown on the screen; report.md has all."""


def report(paths: Sequence[Path], out: Path | None) -> str:
    """Write the report of all runs at or below the paths; what to show on the screen comes back.

    UserError where there is no complete run, or where `out` (default: report/ below the first path) cannot be written.
    """
    found = collect(paths)
    if not found.runs:
        where = ", ".join(str(path) for path in paths)
        raise UserError("\n".join([f"no complete run lies at or below {where}.", *_left_out(found, SHOWN)]))
    cells, odd = into_cells(found.runs)
    found = replace(found, problems=(*found.problems, *odd))
    folder = out or paths[0] / "report"
    try:
        files = write(found, cells, folder)
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {folder} ({error.strerror}); choose another --out."
        ) from error
    return "\n".join([*_opening(found, cells, SHOWN), *_listed(files)])


def write(found: Collection, cells: Sequence[Cell], out: Path) -> list[Path]:
    """Write the report of these runs below `out`; its files come back, the page and report.md first.

    OSError where that cannot be. An earlier report's files are replaced, or removed where this one has none of their name.
    """
    of_names = _of_names(cells)
    tested = hypotheses.hypotheses(of_names.get("label_relationships", []))
    sheets = _sheets(cells, of_names, tested)
    written = []
    for sheet in sheets:
        for kind, text in FORMATS.items():
            written.append(_put(out / "tables" / f"{sheet.name}.{kind}", text(sheet)))
    drawn = _draw(of_names, tested, out / "figures", in_parallel=len(cells) >= MANY)
    page = [*_opening(found, cells, most=None)]
    for sheet in sheets[1:]:
        page += ["", f"## {marked(clean(sheet.title, LONG))}", "", to_markdown(sheet)]
    page += ["", "## Figures", *(f"\n![{path.stem}](figures/{path.name})" for path in drawn)]
    first = _put(out / "report.md", "\n".join(page) + "\n")
    html = _put(out / "index.html", html_page(found, cells, sheets))
    files = [html, first, *written, *(path.with_suffix(kind) for path in drawn for kind in (".png", ".pdf"))]
    _remove_others(out, files)
    return files


def _remove_others(out: Path, files: Sequence[Path]) -> None:
    """Of what the last report wrote here, all but these files; what others put here stays."""
    listing = out / LISTING
    names = {str(path.relative_to(out)) for path in files}
    before = listing.read_text(encoding="utf-8", errors="replace").splitlines() if listing.exists() else []
    for path in (out / name for name in before if name not in names):
        if path.is_file() and path.resolve().is_relative_to(out.resolve()):
            path.unlink()
    write_atomically(listing, "\n".join(sorted(names)) + "\n")


def _listed(files: Sequence[Path]) -> list[str]:
    """The files, a line for each directory and its kinds of files."""
    kinds: dict[tuple[Path, str], list[str]] = {}
    for path in files:
        kinds.setdefault((path.parent, path.stem), []).append(path.suffix[1:])
    names: dict[tuple[Path, str], list[str]] = {}
    for (folder, stem), endings in kinds.items():
        names.setdefault((folder, ",".join(endings)), []).append(stem)
    return [f"wrote {folder}/{_braced(','.join(stems))}.{_braced(ending)}" for (folder, ending), stems in names.items()]


def _braced(names: str) -> str:
    return f"{{{names}}}" if "," in names else names


def _put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)
    return path


def _opening(found: Collection, cells: Sequence[Cell], most: int | None) -> list[str]:
    """How many runs there are, what was left out, and a row for each cell."""
    complete, left_out = counted(len(found.runs), "run"), counted(len(found.problems), "problem")
    return [
        f"# {complete} in {counted(len(cells), 'cell')}, {len(found.incomplete)} incomplete, {left_out}",
        "",
        *_left_out(found, most),
        to_markdown(tables.overview(cells)),
    ]


def _left_out(found: Collection, most: int | None) -> list[str]:
    """Problems and incomplete runs, by name."""
    parts = (
        [f"problem: {problem}" for problem in found.problems],
        [f"incomplete: {run.path} ({run.reason})" for run in found.incomplete],
    )
    lines = []
    for part in parts:
        lines += [f"* {marked(clean(line, 2 * LONG))}" for line in part[:most]]
        if most is not None and len(part) > most:
            lines.append(f"* … and {len(part) - most} more: report.md names them all")
    return [*lines, ""] if lines else []


def _sheets(cells: Sequence[Cell], of_names: OfNames, tested: Sequence[hypotheses.Hypothesis]) -> list[Sheet]:
    """Every table under a name of its own, the overview first."""
    labels = of_names.get("label_relationships", [])
    found = [
        tables.overview(cells),
        published.beside(cells),
        tables.thirds(cells),
        *(tables.experiment(of_name) for of_name in of_names.values()),
        hypotheses.differences(tested, labels),
        *(hypotheses.sheet(each) for each in _without_guessing(tested)),
        tables.shared(cells),
    ]
    named = _Names()
    return [replace(sheet, name=named(sheet.name)) for sheet in found if sheet is not None]


def _draw(of_names: OfNames, tested: Sequence[hypotheses.Hypothesis], folder: Path, in_parallel: bool) -> list[Path]:
    """Every figure as PNG and PDF under a name of its own; the PNGs come back."""
    named = _Names()
    drawings: list[tuple[str, Drawing]] = []
    for of_name in of_names.values():
        for settings, plane in planes(of_name):
            drawings += [(named(grid.name), grid.figure) for grid in grids(plane, settings)]
    for cell in of_names.get("diagnosis", []):
        title = clean(f"{', '.join(cell.place)}, mean over {len(cell.runs)} seeds")
        name = named(f"confusion_{cell.model}_{cell.dataset}")
        drawings.append((name, partial(diagnosis.confusion_matrices, cell.result, title)))
    for one in _without_guessing(tested):
        drawings.append((named(one.name), partial(hypotheses.heat_map, one)))
    save = partial(_save, folder)
    if in_parallel:
        with ProcessPoolExecutor(min(MOST_PROCESSES, os.cpu_count() or 1), get_context("spawn")) as pool:
            saved = list(pool.map(save, drawings))
    else:
        saved = list(map(save, drawings))
    return [path for path in saved if path is not None]


def _save(folder: Path, drawing: tuple[str, Drawing]) -> Path | None:
    name, draw = drawing
    try:
        figure = draw()
    except (LookupError, ValueError):  # a result without what its experiment is known for
        return None
    return None if figure is None else figures.save({name: figure}, folder)[0]


def _without_guessing(found: Sequence[hypotheses.Hypothesis]) -> list[hypotheses.Hypothesis]:
    """Whether default labels beat guessing is no hypothesis, but what the others' brackets say."""
    return [one for one in found if not one.name.endswith("_minus_guessing")]


def _of_names(cells: Sequence[Cell]) -> OfNames:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.experiment, []).append(cell)
    return found


class _Names:
    """Names for files, each once: letters, digits, - _ . and not too long."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in name)[:80].lstrip(".")
        numbered = (safe if i == 1 else f"{safe}_{i}" for i in range(1, len(self._taken) + 2))
        found = next(name for name in numbered if name.lower() not in self._taken)
        self._taken.add(found.lower())
        return found
