"""Tables in LaTeX: what is written, and that a plain article sets it within the page."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from anchorflow.report.tables.latex import to_latex
from anchorflow.report.tables.sheets import Measured, Sheet
from anchorflow.report.write import report
from anchorflow.results import Result
from tests.report.made_up import MADE_UP, known, made_up
from tests.report.runs import write_run
from tests.report.test_sheets import HOSTILE, SHEET

WIDEST = 10.0
"""Points over the margin."""
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


def assert_set(folder: Path, tables: Sequence[Path]) -> None:
    """An article with these tables compiles, and none of them leaves the page."""
    if shutil.which("pdflatex") is None:
        reason = "pdflatex not found; install Debian's package texlive-latex-recommended"
        if os.environ.get("ANCHORFLOW_REQUIRE_LATEX") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    inputs = "\n".join(rf"\clearpage\input{{{table}}}" for table in tables)
    (folder / "article.tex").write_text(DOCUMENT % inputs, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "article.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=120)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-3000:]
    over = [float(found) for found in re.findall(r"Overfull \\[hv]box \(([\d.]+)pt too", said)]
    assert max(over, default=0.0) <= WIDEST, said
    assert "Missing character" not in (folder / "article.log").read_text(errors="replace")


def test_a_table_is_a_tabular_of_booktabs() -> None:
    assert to_latex(SHEET).splitlines() == [
        "% Title",
        "% a note",
        r"{\footnotesize\setlength{\tabcolsep}{3pt}\noindent",
        r"\begin{tabular}{@{}lrr@{}}",
        r"\toprule",
        r"model & accuracy & tokens \\",
        r"\midrule",
        r"a & $0.333 \pm 0.012$ & $119$ \\",
        r"b & $-2.0 \times 10^{-5}$ (1 of 3 seeds) & $5{,}483{,}520$ \\",
        r"c & -- & -- \\",
        r"\bottomrule",
        r"\end{tabular}\par}",
    ]


def test_the_best_is_in_bold() -> None:
    numbers = [Measured(0.5, 0.01, best=True), Measured(0.25, best=True), Measured(0.1)]
    row = to_latex(Sheet("x", "t", ["a", "b", "c"], [numbers])).splitlines()[6]
    assert row == r"$\mathbf{0.500} \pm 0.010$ & $\mathbf{0.250}$ & $0.100$ \\"


def test_a_wide_table_is_split_between_its_numbers_and_a_long_one_between_its_rows() -> None:
    columns = ["model", *(f"dataset {i}" for i in range(12))]
    rows = [[f"model {i}", *[Measured(0.5, 0.01)] * 12] for i in range(50)]
    text = to_latex(Sheet("x", "t", columns, rows))
    parts = text.split(r"\begin{tabular}")[1:]
    assert [part.count(r"\\") for part in parts] == [41, 11] * (len(parts) // 2)
    assert all(part.count("model & ") == 1 for part in parts)
    assert [part.count("dataset") for part in parts[::2]] == [4, 4, 4]
    assert "% part 6 of 6" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_leaves_its_cell(text: str) -> None:
    sheet = Sheet("x", text, [text, "n"], [[text, Measured(0.5, 0.1, text)], [text, Measured(0.25)]], [text])
    latex = to_latex(sheet)
    assert latex.isascii()
    assert r"\input" not in latex
    heads = [line for line in latex.splitlines() if not line.startswith("%")]
    for line in [line for line in heads if line.endswith(r" \\")]:
        bare = re.sub(r"\\[&%$#_{}]", "", line)
        assert bare.count(" & ") == bare.count("&") == 1
        assert not set("%#_") & set(bare)
        assert bare.count("$") % 2 == 0
        assert not line.startswith(("[", "*"))


def test_signs_of_any_alphabet_are_set(tmp_path: Path) -> None:
    texts = [*HOSTILE, 'Éñçü β λ ß “quoted” "x" <a|b> 50 % — 中文 😀', "a_very_long_name/of.a=setting" * 3]
    rows = [[text, text, Measured(0.5, 0.1, text[:8]), text] for text in texts]
    (tmp_path / "table.tex").write_text(to_latex(Sheet("x", texts[-2], ["a", "b", "β", texts[-1]], rows, texts)))
    assert_set(tmp_path, [tmp_path / "table.tex"])


@pytest.mark.slow
def test_every_table_of_a_report_of_40_cells_fits_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anchorflow.report.write._draw", lambda *_: {})
    regimes = ("random", "flipped", "flip_after_20_at_40", "replaced_Type_Answer_at_max")
    tested = {f"default_minus_{name}": 0.25 for name in regimes} | {f"default_minus_{name}_p": 0.01 for name in regimes}
    number = 0
    for experiment in MADE_UP:
        for model in ("gpt2-xl", "HuggingFaceTB/SmolLM2-135M-Instruct", "llama-7b"):
            for dataset in ("sst2, validation (directory)", "financial_phrasebank (StaICC)"):
                found = made_up(experiment, known())
                more = tested if experiment == "label_relationships" else {}
                full = Result(
                    {**found.metrics, **more, "accuracy": 0.5}, {"accuracy": 0.01}, found.curves, found.tables
                )
                write_run(tmp_path / "runs" / str(number), experiment, full, model=model, dataset=dataset)
                number += 1
    assert number >= 40
    report([tmp_path / "runs"], tmp_path / "out", paper=True)
    tables = sorted((tmp_path / "out").rglob("*.tex"))
    assert {path.parent.name for path in tables} == {"tables", "paper"}
    assert_set(tmp_path, tables)
