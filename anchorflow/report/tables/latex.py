"""Tables in LaTeX for `\\documentclass{article}` with booktabs, in pure ASCII so that encoding and fonts do not matter.

A table wider than a page becomes several tabulars with the same first columns, a longer one several below each other.
Widths are estimated generously.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anchorflow.report.tables.sheets import LONG, UNDEFINED, Measured, Row, Sheet, clean, is_numeric, shown

WIDTH = 340.0
"""The width in points; the text of an article is 345 wide."""
LINES = 40
"""The most rows per page of a tabular in \\footnotesize."""
CHARACTER, BETWEEN = 4.5, 6.0
"""The mean width of a character, and the space between two columns, in points."""
NARROWEST = 58.0
"""The width in points of a column of wrapped text."""
LATE, HEAD = 130.0, 66.0
"""The largest widths in points of a text after numbers, and of a column widened for its name."""
LOOSE = 1.35
"""The factor by which ragged lines make a text longer."""
UNBROKEN = 12
"""The most characters of a word without a possible line break."""
BREAKS = "/_.,="
"""Characters after which a line may break."""
RAGGED = r"\rightskip=0pt plus 1fil\relax "
"""As \\raggedright does, which however redefines the end of a row; a group with \\par makes each cell a line longer."""
POWER = re.compile(r"e([+-]\d+)")
SIGNS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{
        character: f"{{{character}}}" for character in "[]*"
    },  # after the end of a row they would be read as itss arguments
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': "''",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "…": r"\dots{}",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "ß": r"\ss{}",
}
ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u0304": "=", "\u0327": "c"}
GREEK = re.compile(
    r"GREEK SMALL LETTER (ALPHA|BETA|GAMMA|DELTA|EPSILON|ETA|THETA|LAMDA|MU|PI|RHO|SIGMA|TAU|PHI|CHI|PSI|OMEGA)"
)


@dataclass(frozen=True)
class _Column:
    """Widths in points: `width` of wrapped texts, `head` of a wrapped name, `taken` in any case."""

    number: int
    taken: float
    width: float | None = None
    head: float | None = None

    @property
    def kind(self) -> str:
        return "l" if self.width is None else f"p{{{self.width:.0f}pt}}"


def to_latex(sheet: Sheet) -> str:
    """The table in LaTeX, with its title and notes as comments."""
    numeric = is_numeric(sheet)
    parts = list(_parts(sheet, numeric))
    lines = [f"% {_ascii(clean(said, LONG))}" for said in (sheet.title, *sheet.notes)]
    for number, (columns, rows) in enumerate(parts, start=1):
        heads = [_name(sheet.columns[column.number], column) for column in columns]
        lines += [
            *([f"% part {number} of {len(parts)}"] if len(parts) > 1 else []),
            rf"{{\footnotesize\setlength{{\tabcolsep}}{{{BETWEEN / 2:.0f}pt}}\noindent",
            rf"\begin{{tabular}}{{@{{}}{''.join('r' if numeric[c.number] else c.kind for c in columns)}@{{}}}}",
            r"\toprule",
            " & ".join(heads) + r" \\",
            r"\midrule",
            *(" & ".join(typeset(row[c.number], c.width is not None) for c in columns) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}\par}",
            *([r"\medskip"] if number < len(parts) else []),
        ]
    return "\n".join(lines) + "\n"


def _parts(sheet: Sheet, numeric: Sequence[bool]) -> Iterator[tuple[list[_Column], list[Row]]]:
    """The tabulars of a table: the columns that fit the page next to the first ones, and the rows that fit the page."""
    names = [CHARACTER * len(_plain(name)) + BETWEEN for name in sheet.columns]
    texts = [[_plain(row[i]) for row in sheet.rows] for i in range(len(names))]
    bodies = [CHARACTER * max(map(len, column), default=0) + BETWEEN for column in texts]
    first = list(numeric).index(True) if True in numeric else len(numeric)
    further = [_further(i, names[i], bodies[i], numeric[i]) for i in range(first, len(numeric))]
    widest = max((column.taken for column in further), default=0.0)
    natural = [max(names[i], bodies[i]) for i in range(first)]
    ahead = [
        _Column(i, width, None if width >= wanted else width - BETWEEN)
        for i, (width, wanted) in enumerate(zip(_shrunk(natural, WIDTH - widest), natural, strict=True))
    ]
    groups: list[list[_Column]] = []
    for column in further:
        if not groups or sum(c.taken for c in (*ahead, *groups[-1], column)) > WIDTH:
            groups.append([])
        groups[-1].append(column)
    for group in groups or [[]]:
        columns = [*ahead, *group]
        kept: list[Row] = []
        taken = 0
        for number, row in enumerate(sheet.rows):
            lengths = [(len(texts[c.number][number]), c.width) for c in columns if c.width is not None]
            height = max([1, *(math.ceil(LOOSE * CHARACTER * length / width) for length, width in lengths)])
            if kept and taken + height > LINES:
                yield columns, kept
                kept, taken = [], 0
            kept.append(row)
            taken += height
        yield columns, kept


def _further(number: int, name: float, body: float, numeric: bool) -> _Column:
    """A column after the first ones: of numbers, the name is wrapped; of texts, every cell."""
    if not numeric:
        width = min(max(name, body), LATE)
        return _Column(number, width, None if width >= max(name, body) else width - BETWEEN)
    width = max(body, min(name, HEAD))
    return _Column(number, width, head=None if width >= name else width - BETWEEN)


def _name(name: str, column: _Column) -> str:
    """The name of a column, in a box if it is wrapped above numbers."""
    if column.head is None:
        return typeset(name, column.width is not None)
    return rf"\parbox[b]{{{column.head:.0f}pt}}{{\raggedleft {_breakable(clean(name))}\par}}"


def _shrunk(widths: Sequence[float], room: float) -> list[float]:
    """The widths, with the widest reduced until all fit."""
    if sum(widths) <= room:
        return list(widths)
    limits = sorted({*widths, NARROWEST})
    most = next((limit for limit in reversed(limits) if sum(min(w, limit) for w in widths) <= room), NARROWEST)
    above = [width for width in widths if width > most]
    rest = (room - sum(width for width in widths if width <= most)) / len(above) if above else most
    return [min(width, max(most, rest)) for width in widths]


def typeset(cell: str | float | Measured, wrapped: bool = False) -> str:
    """The content of a cell; with `wrapped`, long words may break."""
    if isinstance(cell, str):
        text = clean(cell)
        return RAGGED + _breakable(text) if wrapped else _ascii(text)
    number = cell if isinstance(cell, Measured) else Measured(cell)
    if math.isnan(number.value):
        return _ascii(UNDEFINED)
    text = shown(Measured(number.value, number.stderr), r" \pm ").replace(",", "{,}")
    text = POWER.sub(lambda match: rf" \times 10^{{{int(match[1])}}}", text)
    if number.best:
        text = r"\mathbf{" + text.replace(r" \pm ", r"} \pm ", 1) + "}" * (r" \pm " not in text)
    return f"${text}$" + (f" ({_ascii(clean(number.aside))})" if number.aside else "")


def _breakable(text: str) -> str:
    """The text with possible line breaks within names and in words longer than a column."""
    made, run = "", 0
    for character in text:
        if run == UNBROKEN and character not in BREAKS:
            made += r"\allowbreak{}"
            run = 0
        made += _ascii(character) + (r"\allowbreak{}" if character in BREAKS else "")
        run = 0 if character in f"{BREAKS} -" else run + 1
    return made


def _ascii(text: str) -> str:
    return "".join(map(_sign, text))


def _sign(character: str) -> str:
    """The character in ASCII; its code point if the fonts of an article lack it."""
    if character in SIGNS:
        return SIGNS[character]
    if character.isascii():
        return character
    base, *accents = list(unicodedata.normalize("NFD", character))
    if base.isascii() and len(accents) == 1 and accents[0] in ACCENTS:
        return rf"\{ACCENTS[accents[0]]}{{{SIGNS.get(base, base)}}}"
    if (letter := GREEK.fullmatch(unicodedata.name(character, ""))) is not None:
        return rf"$\{letter[1].lower().replace('lamda', 'lambda')}$"
    return f"{{[}}U+{ord(character):04X}{{]}}"


def _plain(cell: str | float | Measured) -> str:
    """A text about as long as the typeset cell."""
    return re.sub(r"[^\x00-\xff]", "[U+0000]", clean(cell)) if isinstance(cell, str) else shown(cell)
