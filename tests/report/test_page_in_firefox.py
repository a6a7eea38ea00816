"""The page in another browser than the one that its other tests use."""

from pathlib import Path

import pytest

from tests.report.firefox import firefox

pytestmark = pytest.mark.browser


def test_it_draws_the_same_numbers_and_a_link_gives_the_same_picture(page: Path, tmp_path: Path) -> None:
    with firefox(tmp_path) as browser:
        browser.open(page.as_uri())
        assert "5 runs of 2 experiments" in browser.run("byId('summary').textContent")
        browser.run("document.querySelectorAll('#run-filters input[type=radio]')[1].click() ?? 0")
        assert browser.run("byId('curve-figure').data.filter((trace) => trace.fill !== 'toself').length") == 2 * 6
        assert browser.run("document.querySelectorAll('#flow-prompt path.arc').length") == 40
        sized = browser.run("(({ width, height }) => [width, height])(byId('flow-prompt').getBoundingClientRect())")
        assert min(sized) > 100
        browser.run("byId('flow-layer').value = 5, byId('flow-layer').dispatchEvent(new Event('input'))")
        browser.run("document.querySelectorAll('.token')[7].click() ?? 0")
        browser.run("state.write() ?? 0")
        before, link = browser.run("written(byId('flow-panels'))"), browser.run("location.href")
        assert "Layer 5 of 6" in before
        browser.open(link)
        assert browser.run("written(byId('flow-panels'))") == before
        assert browser.complaints == []
