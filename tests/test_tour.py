"""docs/tour.md is true: its diagram is that of the imports, its blocks are those of a run, and what it names exists."""

import re
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from tests import rooms, tour
from tests.conftest import ROOT
from tests.documentation import DOCS

PAGE = (DOCS / "tour.md").read_text()
DOTTED = sorted(set(re.findall(r"`(anchorflow\.[\w.]+)`", PAGE)))
PATHS = sorted(set(re.findall(r"`((?:anchorflow|conf)/[\w/.]+|\w+\.py|\w+\.md)`", PAGE)))
WRITES = "python -m tests.documentation writes it"


def test_the_diagram_shows_the_imports() -> None:
    assert rooms.FILE.read_text() == rooms.svg(), WRITES
    drawn = set(rooms.arrows())
    assert ("runs", "experiments") not in drawn  # it follows from others
    assert "experiments" in rooms.below("runs")
    for room, direct in rooms.imports().items():
        assert rooms.below(room) == direct.union(*(rooms.below(to) for to in direct))


def test_the_blocks_are_those_of_a_run() -> None:
    assert tour.updated(PAGE) == PAGE, WRITES
    assert tour.blocks()["prompt"].endswith("Answer:")


@pytest.mark.parametrize("name", DOTTED)
def test_what_the_tour_names_exists(name: str) -> None:
    words = name.split(".")
    modules = [".".join(words[:n]) for n in range(1, len(words) + 1)]
    found: Any = None
    for n, module in enumerate(modules, start=1):
        if n > 1 and (not hasattr(import_module(modules[n - 2]), "__path__") or find_spec(module) is None):
            found = reduce(getattr, words[n - 1 :], import_module(modules[n - 2]))
            break
        found = import_module(module)
    assert found is not None
    if isinstance(found, type) or callable(found):
        assert found.__doc__


def test_the_files_of_the_tour_exist() -> None:
    assert len(PATHS) > 4
    assert len(DOTTED) > 30
    for path in PATHS:
        assert (ROOT / path).is_file(), path
