"""The information-flow view in a browser: what it draws is what the run found."""

import html
from pathlib import Path

import pytest
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.keys import Keys

from anchorflow.experiments.flows import FLOWS, FlowExample, read_examples
from anchorflow.report.show import flow_view, show
from anchorflow.report.view import view_of
from tests.report.browser import Browser, choose

pytestmark = pytest.mark.browser
PICTURE = "return written(document.querySelector('#flow-panels'))"


def kept(page: Path, run: int = 0) -> list[FlowExample]:
    return read_examples(page.parent.parent / f"saliency{run}")[0]


def arcs(browser: Browser) -> list[tuple[int, int]]:
    """(to, from) of the flows that are drawn, strongest first."""
    found = browser.all("#flow-prompt path.arc")
    return [(int(arc.get_attribute("data-to")), int(arc.get_attribute("data-from"))) for arc in reversed(found)]


def strongest(page: Path, layer: int, n: int = 40) -> list[tuple[int, int]]:
    (first, _), _ = read_examples(page.parent.parent / "saliency0")
    return [(to, start) for to, start, _ in first.strongest[layer - 1][:n]]


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
    rows = [row.find_elements("css selector", "td") for row in opened.all("#flow-list table:not(.sums) tbody tr")]
    for cells, (to, start, value) in zip(rows, first.strongest[3], strict=False):
        for cell, i in zip(cells, (start, to), strict=False):
            text = first.tokens[i].strip() or "⏎"
            again = [token.strip() for token in first.tokens].count(first.tokens[i].strip()) > 1
            assert cell.text == text + ("".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(i + 1)) if again else "")
        assert float(cells[2].text) == pytest.approx(value, rel=6e-3)
        assert float(cells[3].text.removesuffix(" %")) == pytest.approx(100 * value / first.totals[3], rel=0.1)
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
    words, label_words, others = opened.all("#flow-view fieldset input")[:3]
    others.click()
    words.click()
    assert set(arcs(opened)) == {(20, 7), (20, 14)}, "label words to the target alone"
    label_words.click()
    assert arcs(opened) == []
    others.click()
    opened.one("#flow-count").send_keys(Keys.HOME)
    assert len(arcs(opened)) == 5
    assert opened.text("#flow-counted").startswith("Lines: 5, together ")


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
    opened.one("#flow-layer").send_keys(Keys.TAB)
    focused = opened.driver.switch_to.active_element
    assert focused.text.strip() == "Review"
    focused.send_keys(Keys.ARROW_DOWN)
    opened.driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    focused = opened.driver.switch_to.active_element
    assert focused.text == "Positive"
    assert opened.text("#tip").startswith("Positive, position 8")
    assert opened.run("return getComputedStyle(arguments[0]).outlineStyle", focused) == "solid"
    looked = [(int(a.get_attribute("data-to")), int(a.get_attribute("data-from"))) for a in opened.all("path.looked")]
    assert looked
    assert all(7 in pair for pair in looked)
    assert focused.get_attribute("aria-label") == "Positive, position 8"
    focused.send_keys(Keys.ENTER)
    assert focused.get_attribute("aria-pressed") == "true"
    opened.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert looked == [
        (int(a.get_attribute("data-to")), int(a.get_attribute("data-from"))) for a in opened.all("path.looked")
    ]
    assert not opened.one("#tip").is_displayed()


def test_the_prompt_is_written_token_by_token_with_its_label_words_and_target(opened: Browser) -> None:
    assert [token.text for token in opened.all(".token.label")] == ["Positive", "Negative"]
    assert [token.text for token in opened.all(".token.target")] == [":"]
    assert opened.run("return [...document.querySelectorAll('.token')].map((t) => Number(t.dataset.token))") == list(
        range(21)
    )
    assert "Positive?" in opened.text("#flow-prompt")


def shares(example: FlowExample, layer: int) -> list[float]:
    """Of all flow of a layer, what each kind has."""
    n, anchors = len(example.tokens), [d.anchor for d in example.demonstrations]
    pairs = [sum(anchors), len(anchors), n * (n - 1) // 2 - sum(anchors) - len(anchors)]
    return [example.means[flow][layer] * pairs[i] / example.totals[layer] for i, flow in enumerate(FLOWS)]


def test_bars_are_shares_of_the_flow_that_the_lines_are_of_or_means_and_say_so(opened: Browser, page: Path) -> None:
    first = kept(page)[0]
    heights = (
        """return [...document.querySelectorAll('.layers rect')].map((bar) => Number(bar.getAttribute('height')))"""
    )
    bars = opened.run(heights)
    for layer in range(6):
        found = shares(first, layer)
        assert sum(found) == pytest.approx(1)
        assert bars[3 * layer : 3 * layer + 3] == pytest.approx(found, abs=0.02)
    said = [row.find_elements("css selector", "td") for row in opened.all("#flow-list .sums tbody tr")]
    for cells, share, flow in zip(said, shares(first, 3), FLOWS, strict=True):
        assert float(cells[0].text) == pytest.approx(first.means[flow][3], rel=6e-3)
        assert float(cells[2].text.removesuffix(" %")) == pytest.approx(100 * share, abs=0.6)
    assert "share of a layer's whole flow" in opened.text("#flow-caption")
    opened.all("#flow-view input[type=radio]")[1].click()
    means = [first.means[flow][5] for flow in FLOWS]
    assert opened.run(heights)[-3:] == pytest.approx([mean / sum(means) for mean in means], abs=0.02)
    assert "Lines are single flows" in opened.text("#flow-caption")


def test_arrows_lead_from_the_token_that_is_read_and_signs_are_dashes(opened: Browser, page: Path) -> None:
    first = kept(page)[0]
    script = (
        "return [...document.querySelectorAll('#flow-prompt path.arc')].map((arc) => arc.getAttribute(arguments[0]))"
    )
    assert all(head.startswith("url(#flow-prompt-") for head in opened.run(script, "marker-end"))
    assert set(opened.run(script, "stroke-dasharray")) == {"none"}
    signs = next(chip for chip in opened.all("#flow-view .chip") if chip.text == "signs")
    signs.click()
    dashed = [dash != "none" for dash in reversed(opened.run(script, "stroke-dasharray"))]
    assert dashed == [sign > 0 for sign in first.signs[3][:40]]
    assert "Dashed: it raises the loss" in opened.text("#flow-view")
    assert opened.one("#flow-list tbody td.number").text.startswith("−")


def test_a_prompt_is_chosen_by_its_row_and_bytes_of_a_character_are_explained(opened: Browser) -> None:
    row = opened.one("#flow-view input[type=number]")
    row.clear()
    row.send_keys("7", Keys.ENTER)
    assert "Row 7 is not kept; rows that are: 3, 12." in opened.text("#flow-view")
    row.clear()
    row.send_keys("12", Keys.ENTER)
    assert "row 12" in opened.text("#flow-heading")
    pieces = opened.all(".token.piece")
    assert [piece.text.strip() for piece in pieces] == ["é", "·"]
    assert pieces[1].get_attribute("aria-label") == "…é₃, position 3, piece 2 of 2 of é"
    assert "splits it into bytes" in opened.text("#flow-view")


def test_one_head_shows_its_part_of_the_flows(opened: Browser, page: Path) -> None:
    assert len(opened.all("#flow-view select")) == 2, "no heads are kept of row 3"
    choose(opened, "#flow-view label:nth-of-type(2) select", 1)
    second = kept(page)[1]
    choose(opened, "#flow-view label:nth-of-type(4) select", 2)
    values = [float(cell.text) for cell in opened.all("#flow-list table:not(.sums) td.number")][:5]
    expected = sorted((abs(parts[1]) for parts in second.heads[3]), reverse=True)[:5]
    assert values == pytest.approx(expected, rel=1e-2)
    assert opened.text("#flow-counted") == "Lines: 40, as head 2 carries them"


def test_two_prompts_side_by_side_share_the_layer(opened: Browser, page: Path) -> None:
    next(chip for chip in opened.all("#flow-view .chip") if chip.text == "two side by side").click()
    assert opened.text("#flow-heading") == "gpt2 · sst2, seed 42, row 3"
    assert opened.text("#flow2-heading") == "gpt2 · sst2, seed 42, row 12"
    assert opened.text("#flow2-layer-text") == "Layer 4 of 6"
    choose(opened, ".panel:nth-of-type(2) select", 2)
    assert opened.text("#flow2-heading") == "small · sst2, seed 42, row 3"
    opened.one("#flow2-layer").send_keys(Keys.END)
    assert opened.text("#flow-layer-text") == opened.text("#flow2-layer-text") == "Layer 6 of 6"
    assert arcs(opened) == strongest(page, 6)


def test_the_page_s_filters_reach_it(opened: Browser) -> None:
    assert opened.text("#flow-heading").startswith("gpt2 · sst2, seed 42")
    opened.all("#run-table tbody input")[0].click()
    assert opened.text("#flow-heading").startswith("gpt2 · sst2, seed 43")
    opened.all("#run-filters .controls")[1].find_elements("css selector", "input")[0].click()  # gpt2
    assert opened.text("#flow-heading").startswith("small · sst2, seed 42")
    opened.one("#run-table thead input").click()
    assert not opened.one("#flow-panels").is_displayed()
    assert "No run that is shown kept an example" in opened.text("#flow-note")


def test_show_draws_the_report_s_picture_alone_and_in_a_notebook(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.open(page)
    browser.run("document.querySelectorAll('#run-filters input[type=radio]')[1].click()")
    before = browser.run(PICTURE)
    alone, _ = show(page.parent.parent / "saliency0", tmp_path / "flow.html")
    browser.open(alone)
    assert browser.run(PICTURE) == before
    assert browser.driver.title == "gpt2, sst2, seed 42: information flow"
    assert alone.stat().st_size < 1e6, "it needs no library for curves"
    view = flow_view("saliency", "gpt2", "sst2", 42, kept(page), view_of("saliency"))
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!DOCTYPE html><title>notebook</title>{view._repr_html_()}")
    browser.driver.get(notebook.as_uri())
    browser.driver.switch_to.frame(browser.one("iframe"))
    assert arcs(browser) == strongest(page, 4)
    slider = browser.one("#flow-layer")
    slider.send_keys(Keys.END)
    assert arcs(browser) == strongest(page, 6)
    browser.driver.switch_to.default_content()
    assert html.escape("gpt2, sst2, seed 42") in notebook.read_text()


def test_a_link_to_hidden_runs_opens_without_a_prompt_and_finds_one_when_they_are_shown(
    browser: Browser, page: Path
) -> None:
    browser.open(page)
    browser.driver.get("about:blank")
    browser.driver.get(f"{page.as_uri()}#experiment=saliency&find=nothing")
    assert not browser.one("#flow-panels").is_displayed()
    next(chip for chip in browser.all("#flow-view .chip") if chip.text == "two side by side").click()
    browser.one("#run-search").send_keys(Keys.BACKSPACE * len("nothing"))
    assert [browser.text(f"#{panel}-heading") for panel in ("flow", "flow2")] == [
        "gpt2 · sst2, seed 42, row 3",
        "gpt2 · sst2, seed 42, row 12",
    ]
    browser.assert_quiet(page)
