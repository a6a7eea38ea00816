"""What the browser's tests share: one browser, and one report's page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorflow.report.write import report
from tests.report.browser import Browser, chromium
from tests.report.page_material import TOKENS, classification, example, in_pieces, saliency
from tests.report.runs import write_run, write_unfinished


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saliency of two models with two seeds each, classification, and an unfinished run."""
    runs = tmp_path_factory.mktemp("runs")
    for i, (model, seed) in enumerate([("gpt2", 42), ("gpt2", 43), ("small", 42), ("small", 43)]):
        folder = write_run(runs / f"saliency{i}", "saliency", saliency(0.1 + 0.2 * i), model=model, seed=seed)
        example(3).write(folder)
        example(12, in_pieces(TOKENS), heads=2 * (i == 0)).write(folder)
    few = {"queries": 50, "skipped": 0}  # for a table of published figures
    write_run(runs / "classification", "classification", classification(), counts=few)
    write_unfinished(runs / "stopped", state="preempted")
    report([runs], runs / "report")
    return runs / "report" / "index.html"


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Browser]:
    """The page, with the runs of saliency chosen."""
    browser.open(page)
    browser.run("document.querySelectorAll('#run-filters input[type=radio]')[1].click()")
    yield browser
    browser.assert_quiet(page)
