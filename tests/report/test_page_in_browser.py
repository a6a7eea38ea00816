"""The page as its readers use it: opened from disk in a browser, with mouse, keyboard, in the dark, on a small screen."""

import base64
import json
import math
import struct
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest
from selenium.webdriver.common.keys import Keys

from anchorflow.report.write import report
from anchorflow.results import Curve, Result
from tests.report.browser import Browser
from tests.report.page_material import HACK, classification
from tests.report.runs import write_run

pytestmark = pytest.mark.browser


def lines(browser: Browser) -> int:
    """How many lines with values the figure draws (the bands of standard errors are not among them)."""
    script = "return document.getElementById('curve-figure').data.filter((trace) => trace.fill !== 'toself').length"
    return int(browser.run(script))


def test_it_says_what_it_holds_and_what_was_left_out(opened: Browser) -> None:
    assert opened.text("#summary") == "5 runs of 2 experiments on 2 models and 1 dataset · 1 run incomplete"
    assert len(opened.all("#run-table tbody tr")) == 4
    assert "stopped: preempted" in opened.text("#rest-view")
    assert "Published figures" not in opened.text("#sheet-view")
    assert "saliency: mean ± standard error" in opened.text("#sheet-view")


def test_toggles_hide_runs_and_seeds(opened: Browser) -> None:
    assert lines(opened) == 2 * 6  # two cells, six curves
    opened.all("#curve-controls input[type=radio]")[0].click()  # each run
    assert lines(opened) == 4 * 6
    opened.all("#run-table tbody input")[0].click()
    assert lines(opened) == 3 * 6
    assert opened.text("#curve-legend").count("gpt2") == 1
    opened.all("#run-filters .controls")[1].find_elements("css selector", "input")[0].send_keys(Keys.SPACE)  # gpt2
    assert lines(opened) == 2 * 6
    assert "gpt2" not in opened.text("#curve-legend")
    assert len(opened.all("#run-table tbody tr")) == 2
    opened.all("#run-filters .controls")[2].find_elements("css selector", "input")[1].click()  # seed 43
    assert lines(opened) == 6
    opened.all("#curve-controls fieldset")[1].find_elements("css selector", "input")[0].click()  # the panel of shares
    assert lines(opened) == 3
    opened.all("#curve-controls fieldset")[2].find_elements("css selector", "input")[0].click()  # S_wp
    assert lines(opened) == 2
    opened.one("#run-table thead input").click()
    assert "No shown run" in opened.text("#curve-legend")
    assert not opened.one("#curve-figure").is_displayed()


LOOKS = """return Object.fromEntries(document.getElementById('curve-figure').data.filter((t) => t.fill !== 'toself' && t.meta)
  .map((t) => [t.meta + ' ' + t.yaxis, [t.line.color, t.line.dash, t.marker.symbol].join(' ')]))"""


def test_a_colour_and_a_dash_stay_with_their_cell_and_curve_whatever_is_ticked(opened: Browser) -> None:
    before = opened.run(LOOKS)
    of_models = [{look.split()[0] for name, look in before.items() if name.startswith(m)} for m in ("gpt2", "small")]
    assert [len(colours) for colours in of_models] == [1, 1]
    assert of_models[0] != of_models[1]
    opened.all("#run-filters .controls")[1].find_elements("css selector", "input")[0].send_keys(Keys.SPACE)  # gpt2
    opened.all("#curve-controls fieldset")[2].find_elements("css selector", "input")[0].click()  # S_wp
    after = opened.run(LOOKS)
    assert 0 < len(after) < len(before)
    assert all(before[name] == look for name, look in after.items())


@pytest.mark.parametrize("dark", [False, True])
def test_many_cells_have_panels_for_each_dataset_and_a_legend_that_is_true(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dark: bool
) -> None:
    monkeypatch.setattr("anchorflow.report.write._draw", lambda *_: {})
    models, datasets = [f"model-{i:02}" for i in range(10)], ["sst2", "trec"]
    for model in models:
        for dataset in datasets:
            write_run(tmp_path / f"{model}-{dataset}", "classification", classification(), model=model, dataset=dataset)
    report([tmp_path], tmp_path / "out")
    browser.open(tmp_path / "out" / "index.html", dark=dark)
    looks = browser.run(LOOKS)
    assert len({*looks.values()}) == len(models)
    assert [entry.text.strip("●■ \n") for entry in browser.all("#curve-legend > span")] == models
    titles = browser.run("return document.getElementById('curve-figure').layout.annotations.map((a) => a.text)")
    assert titles == [f"<b>{dataset}</b>" for dataset in datasets] * 2
    kinds = browser.run("return document.getElementById('curve-figure').data.filter((t) => !t.meta).map((t) => t.x)")
    assert [0, 1] in kinds  # the diagonal
    assert "Dotted: y = x" in browser.text("#curve-caption")
    assert "Bands" not in browser.text("#curve-caption"), "there are none"


def test_few_layers_have_a_tick_each_and_a_panel_without_a_value_says_so(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anchorflow.report.write._draw", lambda *_: {})
    curves = {"AUCROC": Curve("layer", [1, 2], [0.5, 0.5]), "R": Curve("layer", [1, 2], [math.nan] * 2)}
    write_run(tmp_path / "run", "attention_prediction", Result({"mean_AUCROC": 0.5}, curves=curves))
    report([tmp_path], tmp_path / "out")
    browser.open(tmp_path / "out" / "index.html")
    assert [text.text for text in browser.all("#curve-figure :is(.xtick, .x2tick)")] == ["1", "2", "1", "2"]
    assert "undefined here" in [text.text for text in browser.all("#curve-figure .annotation")]


def test_means_over_seeds_are_of_the_runs_that_are_shown(opened: Browser) -> None:
    assert "± one standard error, over seeds" in opened.text("#curve-caption")
    drawn = "document.getElementById('curve-figure').data.filter((trace) => trace.fill !== 'toself')"
    script = f"return {drawn}.map((trace) => [trace.y[0], trace.customdata[0]])"
    assert opened.run(script)[0] == [pytest.approx(0.2), "0.100"]  # 0.1 and 0.3
    opened.all("#run-table tbody input")[0].click()
    assert opened.run(script)[0] == [pytest.approx(0.3), "0.100"]  # one seed: its own standard error


def test_the_table_of_runs_is_sorted_by_a_press_on_its_head(opened: Browser) -> None:
    def column(i: int) -> list[str]:
        return [cell.text for cell in opened.all(f"#run-table tbody td:nth-child({i})")]

    assert column(7) == ["0.100 ± 0.050", "0.300 ± 0.050", "0.500 ± 0.050", "0.700 ± 0.050"]
    head = opened.one("#run-table th:nth-child(7) button")
    head.send_keys(Keys.ENTER)
    head.send_keys(Keys.ENTER)
    assert column(7) == ["0.700 ± 0.050", "0.500 ± 0.050", "0.300 ± 0.050", "0.100 ± 0.050"]
    assert opened.one("#run-table th:nth-child(7)").get_attribute("aria-sort") == "descending"


def test_confusion_matrices_are_tables_of_numbers(opened: Browser) -> None:
    assert "choose the experiment classification" in opened.text("#matrix-view")
    opened.all("#run-filters input[type=radio]")[0].click()
    assert [cell.text for cell in opened.all(".matrix tbody td")] == ["1.00", "0.00", "0.00", "1.00"]
    assert "share of the true class" in opened.text("#matrix-view")


@pytest.mark.parametrize("dark", [False, True])
def test_it_is_light_or_dark_as_the_reader_wants(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, dark=dark)
    browser.run("document.querySelectorAll('#run-filters input[type=radio]')[1].click()")

    def brightness(css: str, key: str) -> float:
        value = browser.run("return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", css, key)
        return sum(int(part) for part in value[4:-1].split(",")[:3]) / 3

    paper, ink = brightness("body", "backgroundColor"), brightness("body", "color")
    assert (paper < 60 < 190 < ink) if dark else (ink < 60 < 190 < paper)
    assert (brightness("#curve-figure .xtick text", "fill") > 190) is dark
    assert (brightness("option", "color") > 130) is dark


def test_a_small_screen_needs_no_scrolling_sideways(browser: Browser, page: Path) -> None:
    browser.open(page, width=360, height=740)
    browser.run("document.querySelectorAll('#run-filters input[type=radio]')[1].click()")
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert len(browser.all("#flow-prompt path.arc")) == 40
    browser.assert_quiet(page)


def test_a_script_that_got_into_the_page_would_not_run(browser: Browser, page: Path, tmp_path: Path) -> None:
    """The page's policy, should a text ever slip through."""
    broken = tmp_path / "index.html"
    broken.write_text(
        page.read_text().replace("<noscript>", f"<script>{HACK}</script><img src=x onerror={HACK}><noscript>", 1)
    )
    browser.driver.get(broken.as_uri())
    complaints = json.dumps(browser.driver.get_log("browser"))
    browser.driver.get_log("performance")
    assert "Content Security Policy" in complaints
    assert browser.run("return window.hacked") is None
    assert browser.text("#flow-layer-text") == "Layer 4 of 6", "the page's own scripts run"


def test_a_search_shows_the_runs_that_have_all_its_words(opened: Browser) -> None:
    opened.one("#run-search").send_keys("gpt2 seed 43")
    assert opened.text("#run-count") == "1 of 4 runs"
    assert len(opened.all("#run-table tbody tr")) == 1
    assert lines(opened) == 6
    opened.one("#run-search").send_keys(" nothing")
    assert opened.all("#run-table tbody tr") == []
    assert not opened.one("#flow-panels").is_displayed()


PICTURE = """const { _uid } = document.getElementById('curve-figure')._fullLayout;  // drawn by lot
return written(document.querySelector(arguments[0])).replaceAll(_uid, 'uid')"""


def test_a_link_gives_the_same_picture_in_another_window(opened: Browser, page: Path) -> None:
    """Everything that can be chosen, read again from the address alone."""
    opened.one("#run-search").send_keys("gpt2")
    opened.all("#run-table tbody input")[0].click()  # seed 42 is hidden
    opened.one("#run-table th:nth-child(7) button").click()
    opened.all("#curve-controls input[type=radio]")[0].click()  # each run
    opened.all("#curve-controls fieldset")[1].find_elements("css selector", "input")[1].click()  # no means
    for chosen in opened.all("#flow-view .controls input[type=checkbox]")[2:5]:  # no words, signs, two side by side
        chosen.click()
    opened.all("#flow-view input[type=radio]")[1].click()  # bars of means
    opened.one("#flow-layer").send_keys(Keys.END)
    opened.all(".token")[7].click()
    opened.all("#sheet-view summary")[1].click()
    places = ("#flow-panels", "#curve-picture", "#run-table", "#sheet-view")
    opened.run("state.write()")
    link, before = opened.driver.current_url, [opened.run(PICTURE, place) for place in places]
    assert "#experiment=saliency&" in link
    opened.driver.get("about:blank")
    opened.driver.get(link)
    for place, picture in zip(places, before, strict=True):
        assert opened.run(PICTURE, place) == picture, place
    opened.one("nav a[href='#sheets']").click()
    opened.run("state.write()")
    assert opened.driver.current_url == link.replace("#", "#at=sheets&")
    assert opened.run("return document.activeElement.id") == "sheets-title"
    opened.driver.get(link.split("#")[0] + "#flow.layer=2")  # in the same window
    assert opened.text("#flow-layer-text") == "Layer 2 of 6"


def test_a_link_to_what_this_report_lacks_opens_it_as_without(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.driver.get("about:blank")
    bad = "experiment=x&flow.run=y&flow.row=z&flow.layer=99&flow.head=7&flow.token=-1&flow2.run=y&hide=q&matrix=m&sort.runs=99"
    browser.driver.get(f"{page.as_uri()}#{bad}&at=nowhere&open=t&flow.count=w&lines=v")
    assert browser.text("#flow-layer-text") == "Layer 6 of 6"
    assert len(browser.all("#run-table tbody tr")) == 1
    browser.assert_quiet(page)


SAVED = "window.download = (blob, file) => { window.saved = [blob, file]; }"
READ = """
const wait = (done) => {
  if (!window.saved) return setTimeout(wait, 10, done);
  const [blob, file] = window.saved, reader = new FileReader();
  window.saved = null;
  reader.onload = () => done([file, reader.result.split(",")[1]]);
  reader.readAsDataURL(blob);
};
wait(arguments[0]);"""


def test_every_chart_is_saved_as_svg_and_png(opened: Browser) -> None:
    opened.run(SAVED)
    found = {}
    for experiment, places in ((1, ("#flow-view", "#curve-controls")), (0, ("#matrix-view",))):
        opened.all("#run-filters input[type=radio]")[experiment].click()
        for place in places:
            for button in opened.all(f"{place} .buttons button"):
                button.click()
                file, content = opened.driver.execute_async_script(READ)
                found[file] = base64.b64decode(content)
    assert {*found} == {
        f"{name}.{kind}"
        for name in ("flow-gpt2_sst2_seed_42-row3-layer4", "curves-saliency", "confusion-gpt2_sst2_seed_42")
        for kind in ("svg", "png")
    }
    says = {"flow": "Positive", "curves": "share of saliency", "confusion": "1.00"}
    for file, content in found.items():
        if file.endswith(".svg"):
            drawn = ElementTree.fromstring(content)
            assert says[file.split("-")[0]] in [(text or "").strip() for text in drawn.itertext()]
            assert b"var(--" not in content, "it needs no style sheet"
            size = [int(drawn.attrib[name]) for name in ("width", "height")]
            png = found[file.replace(".svg", ".png")]
            assert png.startswith(b"\x89PNG")
            assert list(struct.unpack(">2I", png[16:24])) == [2 * each for each in size]


def test_tables_are_copied_as_csv_and_latex_in_the_order_that_is_shown(opened: Browser) -> None:
    opened.run("window.copied = (text, what) => { window.got = [text, what]; }")
    head = opened.one("#run-table th:nth-child(7) button")
    head.click()
    head.click()
    table, text = opened.all("#run-filters .buttons button")
    table.click()
    (csv, what) = opened.run("return got")
    assert what == "4 rows as CSV"
    assert csv.splitlines()[0] == "model,dataset,settings,seed,queries,accuracy,accuracy_stderr,directory"
    assert csv.splitlines()[1].startswith("small,sst2,,43,100,0.7,0.05,/")
    text.click()
    (latex, _) = opened.run("return got")
    assert latex.splitlines()[:2] == [r"\begin{tabular}{@{}lllrrrl@{}}", r"\toprule"]
    assert r"small & sst2 &  & $43$ & $100$ & $0.700 \pm 0.050$ & " in latex
    assert r"saliency\_" not in latex.split(r"\midrule")[0]


def test_what_was_copied_is_said(opened: Browser) -> None:
    opened.one("#copy-link").click()
    opened.driver.execute_async_script("setTimeout(arguments[0], 200)")
    assert opened.text("#said") == "Copied the link to this view."


@pytest.mark.parametrize(("dark", "width", "experiment"), [(False, 1280, 0), (True, 400, 1)])
def test_axe_finds_nothing(browser: Browser, page: Path, dark: bool, width: int, experiment: int) -> None:
    axe = resources.files("axe_core_python") / "axe.min.js"
    browser.open(page, dark=dark, width=width)
    browser.all("#run-filters input[type=radio]")[experiment].click()
    browser.run("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
    browser.run("[...document.querySelectorAll('#flow-view .chip')].at(-1).click()")  # two side by side
    browser.run(axe.read_text(encoding="utf-8"))
    found = browser.driver.execute_async_script("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])")
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert len(found["passes"]) > 20, "it looked"
