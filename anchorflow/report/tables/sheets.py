"""Tables as CSV and Markdown, with any names escaped."""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

UNDEFINED = "–"
LONGEST = 110
LONG = 400
"""The most characters of a cell, and of a sentence or a text for a program."""
FORMULA = tuple("=+-@＝＋－＠")
"""Characters with which a spreadsheet starts a formula."""
MARKDOWN = re.compile(r"([\\|`*]|\](?=\())")


@dataclass(frozen=True)
class Measured:
    """A number with its standard error; `aside` is a short remark, and `best` prints it in bold."""

    value: float
    stderr: float = math.nan
    aside: str = ""
    best: bool = False


Row = Sequence[str | float | Measured]


@dataclass(frozen=True)
class Sheet:
    """A table; `name` is that of its file, `notes` are printed below it."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()


def clean(text: str, longest: int = LONGEST) -> str:
    """The text on one line, without invisible characters, shortened if it is too long."""
    shown = "".join(character if character.isprintable() else " " for character in text.strip()[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def written(value: float) -> str:
    """A number for reading: three decimals, fewer for large numbers, none for whole ones."""
    if math.isnan(value):
        return UNDEFINED
    size = abs(value)
    if isinstance(value, Integral) or size >= 1000 or (size >= 10 and float(value).is_integer()):
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.1e}" if 0 < size < 0.001 else f"{value:.3f}"


def with_error(value: float, stderr: float, between: str = " ± ") -> str:
    """A number with its standard error: two digits of the error, and as many decimals for the number."""
    if math.isnan(value) or math.isnan(stderr):
        return written(value)
    if stderr <= 0:
        return f"{written(value)}{between}0"
    if max(abs(value), stderr) < 0.001:
        return f"{value:.1e}{between}{stderr:.1e}"
    decimals = max(0, 1 - math.floor(math.log10(float(f"{stderr:.1e}"))))
    return f"{round(value, decimals) + 0.0:,.{decimals}f}{between}{stderr:,.{decimals}f}"  # + 0.0: no zero is negative


def to_csv(sheet: Sheet) -> str:
    """Full-precision CSV; a measured column is followed by its standard errors, and by remarks if there are any."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = []
    for i, name in enumerate(sheet.columns):
        cells = [row[i] for row in sheet.rows]
        columns.append([_defused(name), *map(_value, cells)])
        if any(isinstance(cell, Measured) for cell in cells):
            columns.append([_defused(f"{name} stderr"), *(_full(_measured(cell).stderr) for cell in cells)])
        if any(_measured(cell).aside for cell in cells):
            columns.append([_defused(f"{name} remark"), *(_defused(_measured(cell).aside) for cell in cells)])
    writer.writerows(zip(*columns, strict=True))
    return file.getvalue()


def to_markdown(sheet: Sheet) -> str:
    """A table in GitHub's Markdown, with texts escaped."""
    rows = [sheet.columns, *([shown(cell) for cell in row] for row in sheet.rows)]
    lines = [f"| {' | '.join(marked(clean(cell)) for cell in row)} |" for row in rows]
    lines.insert(1, f"| {' | '.join('---:' if number else '---' for number in is_numeric(sheet))} |")
    return "\n".join([*lines, *(f"\n{marked(clean(note, LONG))}" for note in sheet.notes)]) + "\n"


def is_numeric(sheet: Sheet) -> list[bool]:
    """For each column, whether it has a number."""
    return [any(not isinstance(row[i], str) for row in sheet.rows) for i in range(len(sheet.columns))]


def _measured(cell: str | float | Measured) -> Measured:
    return cell if isinstance(cell, Measured) else Measured(math.nan)


def _value(cell: str | float | Measured) -> str:
    if isinstance(cell, str):
        return _defused(cell)
    return _full(cell.value if isinstance(cell, Measured) else cell)


def _full(number: float) -> str:
    return "" if math.isnan(number) else str(int(number)) if isinstance(number, Integral) else repr(float(number))


def _defused(text: str) -> str:
    shown = clean(text, LONG)
    return f"'{shown}" if shown.startswith(FORMULA) else shown


def shown(cell: str | float | Measured, between: str = " ± ") -> str:
    """A cell as text for reading."""
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, Measured):
        return written(cell)
    return with_error(cell.value, cell.stderr, between) + (f" ({cell.aside})" if cell.aside else "")


def marked(text: str) -> str:
    """The text escaped for Markdown."""
    return MARKDOWN.sub(r"\\\1", text).replace("<", "&lt;")
