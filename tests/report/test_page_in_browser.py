"""The page as its readers use it: opened from disk in a browser, with mouse, keyboard, in the dark, on a small screen."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.keys import Keys

from anchorflow.experiments.flows import read_examples
from anchorflow.report.write import report
from tests.report.browser import Browser, chromium
from tests.report.page_material import HACK, classification, example, saliency
from tests.report.runs import write_run, write_unfinished

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saliency of two models with two seeds each, classification, and an unfinished run."""
    runs = tmp_path_factory.mktemp("runs")
    for i, (model, seed) in enumerate([("gpt2", 42), ("gpt2", 43), ("small", 42), ("small", 43)]):
        folder = write_run(runs / f"saliency{i}", "saliency", saliency(0.1 + 0.2 * i), model=model, seed=seed)
        for query in (3, 12):
            example(query).write(folder)
    few = {"queries": 50, "skipped": 0}  # for a table of published figures
    write_run(runs / "classification", "classification", classification(), counts=few)
    write_unfinished(runs / "stopped", state="preempted")
    report([runs], runs / "report")
    return runs / "report" / "index.html"


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Browser]:
    browser.open(page)
    browser.run("document.querySelectorAll('#run-filters input[type=radio]')[1].click()")  # saliency
    yield browser
    browser.assert_quiet(page)


def lines(browser: Browser) -> int:
    """How many lines with values the figure draws (the bands of standard errors are not among them)."""
    script = "return document.getElementById('curve-figure').data.filter((trace) => trace.fill !== 'toself').length"
    return int(browser.run(script))


def arcs(browser: Browser) -> list[tuple[int, int]]:
    """(to, from) of the flows that are drawn, strongest first."""
    found = browser.all("#flow-prompt path.arc")
    return [(int(arc.get_attribute("data-to")), int(arc.get_attribute("data-from"))) for arc in reversed(found)]


def strongest(page: Path, layer: int, n: int = 40) -> list[tuple[int, int]]:
    (first, _), _ = read_examples(page.parent.parent / "saliency0")
    return [(to, start) for to, start, _ in first.strongest[layer - 1][:n]]


def test_it_says_what_it_holds_and_what_was_left_out(opened: Browser) -> None:
    assert opened.text("#summary") == "5 runs of 2 experiments on 2 models and 1 dataset · 1 run incomplete"
    assert len(opened.all("#run-table tbody tr")) == 4
    assert "stopped: preempted" in opened.text("#rest-view")
    assert "Published figures" not in opened.text("#sheet-view")
    assert "saliency: mean ± standard error" in opened.text("#sheet-view")


def test_the_layer_slider_changes_the_flows_with_the_mouse_and_the_keyboard(opened: Browser, page: Path) -> None:
    assert opened.text("#flow-layer-text") == "Layer 4 of 6"
    assert arcs(opened) == strongest(page, 4)
    slider = opened.one("#flow-layer")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert opened.text("#flow-layer-text") == slider.get_attribute("aria-valuetext") == "Layer 5 of 6"
    assert arcs(opened) == strongest(page, 5) != strongest(page, 4)
    slider.send_keys(Keys.HOME)
    assert arcs(opened) == strongest(page, 1)
    opened.run("arguments[0].value = 3; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert arcs(opened) == strongest(page, 3)


def test_the_numbers_of_the_list_are_those_of_the_run(opened: Browser, page: Path) -> None:
    (first, _), _ = read_examples(page.parent.parent / "saliency0")
    rows = [row.find_elements("css selector", "td") for row in opened.all("#flow-list tbody tr")]
    for cells, (to, start, value) in zip(rows, first.strongest[3], strict=False):
        token = [first.tokens[i].strip() or "⏎" for i in (start, to)]
        assert [cell.text for cell in cells[:2]] == [f"“{text}”" for text in token]
        assert float(cells[2].text) == pytest.approx(value, rel=6e-3)
        assert float(cells[3].text.removesuffix(" %")) == pytest.approx(100 * value / first.totals[3], rel=0.1)
    assert "S_pq 0.200" in opened.text("#flow-list")
    assert "predicted Positive, true label Positive" in opened.text("#flow-verdict")


def test_hovering_a_flow_shows_its_numbers(opened: Browser, page: Path) -> None:
    place = """
        const path = [...document.querySelectorAll('#flow-prompt path.hit')].at(-1);
        path.scrollIntoView({block: 'center'});
        for (let part = 0.1; part < 1; part += 0.01) {
            const {x, y} = path.getPointAtLength(part * path.getTotalLength()).matrixTransform(path.getScreenCTM());
            if (document.elementFromPoint(x, y) === path) return [Math.round(x), Math.round(y)];
        }"""
    to, start = strongest(page, 4)[0]
    actions = ActionBuilder(opened.driver)
    actions.pointer_action.move_to_location(*opened.run(place))
    actions.perform()
    assert opened.one("#tip").is_displayed()
    said = opened.text("#tip")
    assert f"positions {start + 1} → {to + 1}" in said
    assert "I = " in said
    assert " % of the layer" in said
    assert len(opened.all("path.looked")) == 1
    actions.pointer_action.move_to_location(2, 2)
    actions.perform()
    assert not opened.one("#tip").is_displayed()


def test_kinds_of_flow_and_their_number_can_be_chosen(opened: Browser) -> None:
    words, label_words, others = opened.all("#flow-view fieldset input")
    others.click()
    words.click()
    assert set(arcs(opened)) == {(20, 7), (20, 14)}, "label words to the target alone"
    label_words.click()
    assert arcs(opened) == []
    others.click()
    opened.one("#flow-count").send_keys(Keys.HOME)
    assert len(arcs(opened)) == 5
    assert opened.text("output[for=flow-count]").startswith("5, together ")


def test_run_and_query_can_be_chosen_and_the_layer_stays(opened: Browser, page: Path) -> None:
    opened.one("#flow-layer").send_keys(Keys.END)
    before = arcs(opened)
    opened.all("#flow-view select")[1].send_keys(Keys.ARROW_DOWN)
    assert opened.text("#flow-layer-text") == "Layer 6 of 6"
    assert arcs(opened) != before
    opened.all("#flow-view select")[0].send_keys(Keys.ARROW_DOWN)
    assert arcs(opened) == before, "the first example again, of another run"
    chosen = "return document.querySelector('#flow-view select').selectedOptions[0].textContent"
    assert opened.run(chosen) == "gpt2 · sst2, seed 43"


def test_tokens_can_be_walked_through_with_arrow_keys_and_say_their_numbers(opened: Browser) -> None:
    opened.one("#flow-count").send_keys(Keys.TAB, Keys.TAB)  # past the layers to the prompt
    focused = opened.driver.switch_to.active_element
    assert focused.text.strip() == "Review"
    focused.send_keys(Keys.ARROW_DOWN)
    opened.driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    focused = opened.driver.switch_to.active_element
    assert focused.text == "Positive"
    assert opened.text("#tip").startswith("“Positive”, position 8")
    assert opened.run("return getComputedStyle(arguments[0]).outlineStyle", focused) == "solid"
    looked = [(int(a.get_attribute("data-to")), int(a.get_attribute("data-from"))) for a in opened.all("path.looked")]
    assert looked
    assert all(7 in pair for pair in looked)
    opened.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert not opened.one("#tip").is_displayed()


def test_the_prompt_is_written_token_by_token_with_its_label_words_and_target(opened: Browser) -> None:
    assert [token.text for token in opened.all(".token.label")] == ["Positive", "Negative"]
    assert [token.text for token in opened.all(".token.target")] == [":"]
    assert opened.run("return [...document.querySelectorAll('.token')].map((t) => Number(t.dataset.token))") == list(
        range(21)
    )
    assert "Positive?" in opened.text("#flow-prompt")


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
    assert "± one standard error" in browser.text("#curve-caption")


def test_means_over_seeds_are_of_the_runs_that_are_shown(opened: Browser) -> None:
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
    assert arcs(browser) == strongest(page, 4)
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
