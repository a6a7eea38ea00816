"""A page of hostile texts, and one with nothing to draw, in a real browser."""

from pathlib import Path

import pytest

from anchorflow.report.write import report
from anchorflow.results import Curve, Result
from tests.report.browser import Browser, choose
from tests.report.page_material import HACK, TOKENS, classification, example, saliency
from tests.report.runs import write_run, write_unfinished

pytestmark = pytest.mark.browser
HOSTILE = (
    f"<script>{HACK}</script>",
    f"</script><script>{HACK}</script>",
    f"<img src=x onerror={HACK}>",
    f'" onmouseover="{HACK}" x="',
    f"<a href='javascript:{HACK}'>go</a>",
    "<!-- <script>",
    "{{data}} %{x} $<b>bold</b>",
    "\u202egnp.exe\u2066 \u0000\u0007",
    "x" * 10_000,
    "__proto__",
    "toString",
)


def test_hostile_texts_show_as_text_and_run_nothing(browser: Browser, tmp_path: Path) -> None:
    for i, text in enumerate(HOSTILE):
        curves = {text: Curve(text, [1, 2], [0.1, 0.2]), f"{text}/b": Curve(text, [1], [0.1])}
        folder = write_run(
            tmp_path / f"run{i}",
            "saliency",
            Result({"accuracy": 0.5, text: 0.5}, curves=curves, notes=[text]),
            model=text,
            dataset=text,
        )
        tokens = [*TOKENS]
        tokens[2], tokens[7], tokens[14], tokens[17] = text, text, f" {text}", text
        example(3, tokens).write(folder)
        write_run(
            tmp_path / f"matrix{i}", "classification", classification((text, f"not {text}")), model=text, dataset="x"
        )
        write_unfinished(tmp_path / f"stopped{i}", state="failed", error=text)
    write_run(tmp_path / "nameless", HOSTILE[0], saliency(), model="\ud800 not a letter", identity="x")
    report([tmp_path], tmp_path / "report")
    page = tmp_path / "report" / "index.html"
    browser.open(page)
    scripts, hovered = len(browser.all("script")), ""
    for experiment in range(len(browser.all("#run-filters input[name=experiment]"))):
        browser.all("#run-filters input[name=experiment]")[experiment].click()
        for option in range(len(browser.all("#matrix-view option"))):
            choose(browser, "#matrix-view select", option)
        if browser.one("#curve-figure").is_displayed():
            browser.run("Plotly.Fx.hover('curve-figure', [{curveNumber: 0, pointNumber: 0}])")
            hovered += browser.text("#curve-figure")
    browser.run("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    over = "document.querySelector('.token.label').dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
    shown = set()
    for run in range(len(HOSTILE)):
        choose(browser, "#flow-view select", run)
        tokens = browser.run("return [...document.querySelectorAll('.token')].map((token) => token.textContent)")
        assert tokens[2].strip() == tokens[7] == tokens[14] == tokens[17].strip()
        shown.add(tokens[2])
        browser.run(over)
        assert tokens[7][:20] in browser.text("#tip")
    assert shown >= {text for text in HOSTILE if text.isprintable()}
    assert any(text in hovered for text in HOSTILE[:6])
    everything = browser.text("body > main")
    assert "\u202e" not in everything
    assert "[U+202E]gnp.exe" in everything
    assert browser.run("return window.hacked") is None
    assert len(browser.all("script")) == scripts
    assert browser.all("img, #flow-view a, #curves a, #runs a, iframe") == []
    assert browser.run("return document.documentElement.scrollWidth") <= 1280
    browser.assert_quiet(page)


def test_a_page_without_examples_or_curves_says_so(browser: Browser, tmp_path: Path) -> None:
    write_run(tmp_path / "run", "echo", Result({"accuracy": 0.5}), settings={"_target_": "builtins.object"})
    report([tmp_path], tmp_path / "report")
    browser.open(tmp_path / "report" / "index.html")
    assert "experiment.keep_examples" in browser.text("#flow-view")
    assert "No shown run of this experiment has a curve" in browser.text("#curve-legend")
    assert "Nothing: every run" in browser.text("#rest-view")
