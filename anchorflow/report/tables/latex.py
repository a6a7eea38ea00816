"""Tables in LaTeX, as `\\documentclass{article}` with booktabs sets them, whatever its encoding and fonts: ASCII alone.

A table that is wider than a page is several tabulars with the same first columns, one that is longer several below each
other. Widths are estimated, generously.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from anchorflow.report.tables.sheets import LONG, UNDEFINED, Measured, Row, Sheet, clean, is_numeric, shown

WIDTH = 340.0
"""Points: an article's text is 345 wide."""
LINES = 40
"""Of a tabular in \\footnotesize, for a page."""
CHARACTER, BETWEEN = 4.5, 6.0
"""Points: the mean width of a sign, and the room between two columns."""
NARROWEST = 58.0
"""Points of a column of wrapped text."""
LATE, HEAD = 130.0, 66.0
"""Points, at most: of a text behind numbers, and of a column for its name's sake."""
LOOSE = 1.35
"""How much longer a text is when its lines are ragged."""
UNBROKEN = 12
"""Signs of a word that has no place to break."""
BREAKS = "/_.,="
"""Behind them there is one."""
POWER = re.compile(r"e([+-]\d+)")
SIGNS = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{character: f"{{{character}}}" for character in "[]*"},  # after a row's end they would be its arguments
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
    """Points: `width` where its texts are wrapped, `head` where its name is, `taken` in any case."""

    number: int
    taken: float
    width: float | None = None
    head: float | None = None

    @property
    def kind(self) -> str:
        return "l" if self.width is None else f"p{{{self.width:.0f}pt}}"


def to_latex(sheet: Sheet) -> str:
    """The table, its title and notes in comments."""
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
    """The tabulars of a table: columns that fit the page beside the first ones, rows that fit it below each other."""
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
    """A column behind the first ones: the name of one of numbers is wrapped, every cell of one of texts."""
    if not numeric:
        width = min(max(name, body), LATE)
        return _Column(number, width, None if width >= max(name, body) else width - BETWEEN)
    width = max(body, min(name, HEAD))
    return _Column(number, width, head=None if width >= name else width - BETWEEN)


def _name(name: str, column: _Column) -> str:
    """A column's name; that of wrapped numbers in a box of their width."""
    if column.head is None:
        return typeset(name, column.width is not None)
    return rf"\parbox[b]{{{column.head:.0f}pt}}{{\raggedleft {_breakable(clean(name))}\par}}"


def _shrunk(widths: Sequence[float], room: float) -> list[float]:
    """The same, the widest made narrower until all have room."""
    if sum(widths) <= room:
        return list(widths)
    limits = sorted({*widths, NARROWEST})
    most = next((limit for limit in reversed(limits) if sum(min(w, limit) for w in widths) <= room), NARROWEST)
    above = [width for width in widths if width > most]
    rest = (room - sum(width for width in widths if width <= most)) / len(above) if above else most
    return [min(width, max(most, rest)) for width in widths]


def typeset(cell: str | float | Measured, wrapped: bool = False) -> str:
    """A cell's content; in a `wrapped` one long words have places to break."""
    if isinstance(cell, str):
        text = clean(cell)
        return rf"{{\raggedright {_breakable(text)}\par}}" if wrapped else _ascii(text)
    number = cell if isinstance(cell, Measured) else Measured(cell)
    if math.isnan(number.value):
        return _ascii(UNDEFINED)
    text = shown(Measured(number.value, number.stderr), r" \pm ").replace(",", "{,}")
    text = POWER.sub(lambda match: rf" \times 10^{{{int(match[1])}}}", text)
    if number.best:
        text = r"\mathbf{" + text.replace(r" \pm ", r"} \pm ", 1) + "}" * (r" \pm " not in text)
    return f"${text}$" + (f" ({_ascii(clean(number.aside))})" if number.aside else "")


def _breakable(text: str) -> str:
    """With places to break within names, and in words that are longer than a column."""
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
    """It in ASCII; its number where an article's own fonts have none such."""
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
    """About as long as it is set."""
    return re.sub(r"[^\x00-\xff]", "[U+0000]", clean(cell)) if isinstance(cell, str) else shown(cell)
