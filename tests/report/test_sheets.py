"""Tables as CSV, Markdown and LaTeX: numbers in full or as read, and texts that do no harm."""

import csv
import io
import math

import pytest

from anchorflow.report.tables.sheets import (
    LONG,
    LONGEST,
    Measured,
    Sheet,
    clean,
    to_csv,
    to_markdown,
    with_error,
    written,
)

SHEET = Sheet(
    "name",
    "Title",
    ["model", "accuracy", "tokens"],
    [
        ["a", Measured(1 / 3, 0.0123456), 119],
        ["b", Measured(-0.00002, math.nan, "1 of 3 seeds"), 5483520.0],
        ["c", Measured(math.nan), math.nan],
    ],
    ["a note"],
)
HOSTILE = [
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "＝1",
    "a|b`c*d[e](javascript:f)",
    r"\input{/etc/passwd} 100% $x$ #1 & {y}_z^~",
    "[0pt] after a row's end",
    "\x1b[31mred\x07\u202e\ud800",
    "two\nlines\r\nthree",
    "x" * 10_000,
]


def test_csv_has_numbers_in_full_and_their_errors_beside() -> None:
    assert list(csv.reader(io.StringIO(to_csv(SHEET)))) == [
        ["model", "accuracy", "accuracy stderr", "accuracy remark", "tokens"],
        ["a", repr(1 / 3), "0.0123456", "", "119"],
        ["b", "-2e-05", "", "1 of 3 seeds", "5483520.0"],
        ["c", "", "", "", ""],
    ]


def test_markdown_is_what_is_read() -> None:
    assert to_markdown(SHEET).splitlines() == [
        "| model | accuracy | tokens |",
        "| --- | ---: | ---: |",
        "| a | 0.333 ± 0.012 | 119 |",
        "| b | -2.0e-05 (1 of 3 seeds) | 5,483,520 |",
        "| c | – | – |",
        "",
        "a note",
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_does_harm(text: str) -> None:
    sheet = Sheet("x", text, [text, "n"], [[text, Measured(0.5, 0.1, text)], [text, Measured(0.25)]], [text])
    rows = list(csv.reader(io.StringIO(to_csv(sheet))))
    assert {len(row) for row in rows} == {4}
    for cell in (cell for row in rows for cell in row):
        assert cell.isprintable()
        assert not cell.startswith(("=", "+", "-", "@", "＝"))
        assert len(cell) <= LONG + 1
    lines = to_markdown(sheet).splitlines()
    assert len(lines) == 6
    for line in lines[:4]:
        assert line.isprintable()
        assert "<" not in line
        assert line.replace(r"\|", "").count("|") == 3
        assert "](" not in line.replace(r"\]", "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.12345, "0.123"),
        (0.0, "0.000"),
        (1.0, "1.000"),
        (12.345, "12.3"),
        (-1234.5, "-1,234"),
        (0.00012, "1.2e-04"),
        (math.nan, "–"),
        (7, "7"),
        (0, "0"),
        (-5483520, "-5,483,520"),
        (20.0, "20"),
    ],
)
def test_numbers_are_written_as_they_are_read(value: float, shown: str) -> None:
    assert written(value) == shown


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (0.61234, 0.0456, "0.612 ± 0.046"),
        (0.5, 0.1, "0.50 ± 0.10"),
        (0.0004, 0.5, "0.00 ± 0.50"),
        (-119.44, 3.21, "-119.4 ± 3.2"),
        (5483520.0, 1234.0, "5,483,520 ± 1,234"),
        (0.6, 0.00042, "0.60000 ± 0.00042"),
        (0.00002, 0.000003, "2.0e-05 ± 3.0e-06"),
        (-0.001, 0.0996, "0.00 ± 0.10"),
        (0.5, 0.0, "0.500 ± 0"),
        (0.5, math.nan, "0.500"),
        (math.nan, 0.1, "–"),
    ],
)
def test_a_number_has_as_many_digits_as_its_error_supports(value: float, stderr: float, shown: str) -> None:
    assert with_error(value, stderr) == shown


def test_long_texts_are_cut_visibly() -> None:
    assert clean("x" * LONGEST) == "x" * LONGEST
    assert clean("x" * (LONGEST + 1)) == "x" * (LONGEST - 1) + "…"
    assert clean("  a \u2028 b ") == "a   b"
