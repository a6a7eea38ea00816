"""Write a report into one directory: the page, report.md, tables and figures."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from matplotlib.figure import Figure

from anchorflow.errors import UserError
from anchorflow.report.averages import averages
from anchorflow.report.cells import Cell, into_cells, planes
from anchorflow.report.choice import complete, where
from anchorflow.report.collect import Collection, collect, problems_of_views
from anchorflow.report.figures import FileNames, save
from anchorflow.report.grids import grids
from anchorflow.report.over_models import over_models
from anchorflow.report.page.data import content
from anchorflow.report.page.page import page as html_page
from anchorflow.report.page.page import refuse_without_plotly
from anchorflow.report.paper import fitted
from anchorflow.report.paper import tables as paper_tables
from anchorflow.report.tables import overview as tables
from anchorflow.report.tables import published
from anchorflow.report.tables.latex import to_latex
from anchorflow.report.tables.sheets import LONG, Sheet, clean, marked, to_csv, to_markdown
from anchorflow.report.view import attempt
from anchorflow.results import counted, write_atomically

FORMATS: dict[str, Callable[[Sheet], str]] = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
Draw = Callable[[list[str]], Figure | None]
"""Draws a figure, or adds the reason to the list if it cannot."""
OfNames = Mapping[str, Sequence[Cell]]
"""The cells of every experiment, by its name."""
PAPER = "paper"
"""The folder with output for a paper."""
LISTING = ".files"
"""The file that lists what a report has written, for the next report in the same directory."""
MANY = 40
"""The number of cells from which figures are drawn in parallel."""
MOST_PROCESSES = 8
SHOWN = 10
"""The most lines about omissions on the screen; report.md has all."""


def report(
    paths: Sequence[Path],
    out: Path | None,
    wanted: Sequence[str] = (),
    only_complete: bool = False,
    paper: bool = False,
) -> str:
    """Write the report of all runs at or below the paths; returns a summary for the screen.

    `wanted` (NAME=VALUE) selects runs by settings, `only_complete` selects cells with every seed, and `paper` adds output for
    a paper. UserError without plotly, without a complete run, or if `out` (default: report/ below the first path) is not
    writable.
    """
    refuse_without_plotly()
    found = collect(paths)
    if not found.runs:
        places = ", ".join(str(path) for path in paths)
        raise UserError("\n".join([f"no complete run lies at or below {places}.", *_left_out(found, SHOWN)]))
    found = where(found, wanted)
    cells, odd = into_cells(found.runs)
    if only_complete:
        cells, left = complete(cells)
        odd += left
        found = replace(found, runs=tuple(run for cell in cells for run in cell.runs))
    found = replace(found, problems=(*found.problems, *odd))
    folder = out or paths[0] / "report"
    try:
        found, files = write(found, cells, folder, paper)
    except OSError as error:
        raise UserError(
            f"the report cannot be written to {folder} ({error.strerror}); choose another --out."
        ) from error
    return "\n".join([*_opening(found, cells, SHOWN), *_listed(files)])


def write(found: Collection, cells: Sequence[Cell], out: Path, paper: bool = False) -> tuple[Collection, list[Path]]:
    """Write the report of these runs below `out`.

    Returns the collection, extended by problems of this report, and the files, with the page and report.md first. OSError if
    they cannot be written. Files of an earlier report are replaced, or removed if this one has none with their name.
    """
    of_names = _of_names(cells)
    problems = [*problems_of_views(found.runs), *_missing(cells)]
    sheets = _sheets(cells, of_names, problems)
    of_tables = [f"tables/{sheet.name}.{kind}" for sheet in sheets for kind in FORMATS]
    _refuse_others_files(out, [out / name for name in ("index.html", "report.md", *of_tables)])
    written = []
    for sheet in sheets:
        for kind, text in FORMATS.items():
            written.append(_put(out / "tables" / f"{sheet.name}.{kind}", text(sheet)))
    if paper:
        printed = FileNames()
        written += [_put(out / PAPER / f"{printed(sheet.name)}.tex", to_latex(sheet)) for sheet in paper_tables(cells)]
    drawn = _draw(of_names, out / "figures", out / PAPER if paper else None, len(cells) >= MANY, problems)
    found = replace(found, problems=tuple(dict.fromkeys((*found.problems, *problems))))
    index = _index(sheets, drawn)
    shown = content(found, cells, [*sheets, index])
    found = replace(found, problems=tuple(shown["problems"]))  # with the damaged files that only the page reads
    page = [*_opening(found, cells, most=None)]
    for sheet in sheets[1:]:
        page += ["", f"## {marked(clean(sheet.title, LONG))}", "", to_markdown(sheet)]
    page += ["", f"## {index.title}", "", to_markdown(index)]
    page += ["", "## Figures", *(f"\n![{path.stem}](figures/{path.name})" for path in drawn)]
    first = _put(out / "report.md", "\n".join(page) + "\n")
    html = _put(out / "index.html", html_page(shown))
    files = [html, first, *written, *(path.with_suffix(kind) for path in drawn for kind in (".png", ".pdf"))]
    files += [out / PAPER / f"{path.stem}.pdf" for path in drawn] if paper else []
    _remove_others(out, files)
    return found, files


def _refuse_others_files(out: Path, files: Sequence[Path]) -> None:
    """UserError if one of these files exists and no report has written it; then the first listing."""
    listing = out / LISTING
    if listing.exists():
        return
    if there := [path.name for path in files if path.exists()]:
        raise UserError(
            f"{out} has a {there[0]} that no report wrote; choose another --out, or move the file away if it may be replaced."
        )
    _put(listing, "\n".join(str(path.relative_to(out)) for path in files) + "\n")


def _remove_others(out: Path, files: Sequence[Path]) -> None:
    """Remove the files of the last report except these; files from elsewhere stay."""
    listing = out / LISTING
    names = {str(path.relative_to(out)) for path in files}
    before = listing.read_text(encoding="utf-8", errors="replace").splitlines() if listing.exists() else []
    for path in (out / name for name in before if name not in names):
        if path.is_file() and path.resolve().is_relative_to(out.resolve()):
            path.unlink()
    write_atomically(listing, "\n".join(sorted(names)) + "\n")


def _listed(files: Sequence[Path]) -> list[str]:
    """The files as text, one line per directory and file type."""
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
    """The opening: the number of runs, omissions, and a row for each cell."""
    complete = counted(len({run.identity for run in found.runs}), "run")
    left_out = counted(len(found.problems), "problem")
    return [
        f"# {complete} in {counted(len(cells), 'cell')}, {len(found.incomplete)} incomplete, {left_out}",
        *_revisions(found),
        "",
        *_left_out(found, most),
        to_markdown(tables.overview(cells)),
    ]


def _revisions(found: Collection) -> list[str]:
    """The revisions of the code that made the runs, with their numbers of runs."""
    of_runs: Counter[str] = Counter()
    for run in found.runs:
        known = run.result.get("environment", {})
        of_runs.update(known.get("revisions") or filter(None, [known.get("git")]))
    listed = [f"{revision} ({counted(n, 'run')})" for revision, n in of_runs.most_common()]
    return ["", f"code: {', '.join(listed)}"] if listed else []


def _left_out(found: Collection, most: int | None) -> list[str]:
    """Problems, incomplete runs, and directories that are one run."""
    parts = (
        [f"problem: {problem}" for problem in found.problems],
        [f"incomplete: {run.path} ({run.reason})" for run in found.incomplete],
        [f"one run: {merged}" for merged in found.merged],
    )
    lines = []
    for part in parts:
        lines += [f"* {marked(clean(line, 2 * LONG))}" for line in part[:most]]
        if most is not None and len(part) > most:
            lines.append(f"* … and {len(part) - most} more: report.md names them all")
    return [*lines, ""] if lines else []


def _missing(cells: Sequence[Cell]) -> list[str]:
    """What views use but results lack, each once, with the models and datasets."""
    places: dict[str, list[str]] = {}
    for cell in cells:
        for sentence in cell.view.missing(cell.result):
            places.setdefault(sentence, []).append(", ".join(cell.place))
    return [f"{'; '.join(dict.fromkeys(where))}: {sentence}" for sentence, where in places.items()]


def _sheets(cells: Sequence[Cell], of_names: OfNames, problems: list[str]) -> list[Sheet]:
    """All tables with unique names, the overview first."""
    further: list[Sheet] = []
    for name, own in of_names.items():
        if (make := own[0].view.sheets) is not None:
            further += attempt(f"the further tables of {name}", partial(make, own), problems) or ()
    found = [
        tables.overview(cells),
        published.beside(cells),
        tables.thirds(cells),
        *(tables.experiment(of_name) for of_name in of_names.values()),
        *further,
        tables.shared(cells),
    ]
    named = FileNames()
    return [replace(sheet, name=named(sheet.name)) for sheet in found if sheet is not None]


def _draw(
    of_names: OfNames, folder: Path, paper: Path | None, in_parallel: bool, problems: list[str]
) -> dict[Path, str]:
    """Draw every figure as PNG and PDF with a unique name; returns the PNGs with their titles."""
    unique = FileNames()
    drawings: list[tuple[str, str, Draw]] = []
    for of_name in of_names.values():
        for settings, plane in planes(of_name):
            found = [*grids(plane, settings, problems), *averages(plane, settings, problems)]
            found += over_models(plane, settings)
            drawings += [(unique(grid.name), grid.title, grid.draw) for grid in found]
    for experiment, own in of_names.items():
        if (make := own[0].view.drawings) is not None:
            further = attempt(f"the further figures of {experiment}", partial(make, own), problems) or ()
            for name, title, draw in further:
                drawings.append((unique(name), title, partial(attempt, f"the figure {name}", draw)))
    saving = partial(_save, folder, paper)
    if in_parallel:
        with ProcessPoolExecutor(min(MOST_PROCESSES, os.cpu_count() or 1), get_context("spawn")) as pool:
            saved = list(pool.map(saving, [(name, draw) for name, _, draw in drawings]))
    else:
        saved = [saving((name, draw)) for name, _, draw in drawings]
    problems += [problem for _, of_drawing in saved for problem in of_drawing]
    return {path: title for (path, _), (_, title, _) in zip(saved, drawings, strict=True) if path is not None}


def _save(folder: Path, paper: Path | None, drawing: tuple[str, Draw]) -> tuple[Path | None, list[str]]:
    name, draw = drawing
    problems: list[str] = []
    figure = draw(problems)
    if figure is None:
        return None, problems
    path = save({name: figure}, folder)[0]
    if paper is not None and (again := draw([])) is not None:
        save({name: fitted(again)}, paper, ["pdf"])
    return path, problems


def _index(sheets: Sequence[Sheet], drawn: Mapping[Path, str]) -> Sheet:
    """The table of contents: what each file of the report shows."""
    rows = [
        *([f"figures/{path.name}", f"figures/{path.stem}.pdf", shown] for path, shown in drawn.items()),
        *([f"tables/{sheet.name}.csv", f"tables/{sheet.name}.tex", sheet.title] for sheet in sheets),
    ]
    return Sheet("files", "Files of this report", ["for the screen", "for a paper", "what it shows"], rows)


def _of_names(cells: Sequence[Cell]) -> OfNames:
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.experiment, []).append(cell)
    return found
