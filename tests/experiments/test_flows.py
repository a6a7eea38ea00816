"""Kept examples: what is written comes back; what is damaged is named and the rest is read."""

import dataclasses
import json
from pathlib import Path

import pytest

from anchorflow.experiments.flows import FlowExample, read_examples
from anchorflow.prompts import Demonstration

EXAMPLE = FlowExample(
    query=10,
    label=0,
    probs=[0.75, 0.25],
    tokens=["a", " good", ":", " Yes", "\n", "x", ":"],
    demonstrations=[Demonstration(0, 0, 5, 3, (3,), (2, 4))],
    strongest=[[(3, 1, 0.123456789), (6, 3, 1e-7)], []],
    totals=[0.2, 0.0],
    means={"S_wp": [0.1, 0.0], "S_pq": [1e-7, 0.0], "S_ww": [0.0, 0.0]},
    signs=[[1, -1], []],
    heads=[[[0.5, -0.25], [-1e-7, 0.0]], []],
    numbers=[3, 7],
)


def test_what_is_written_comes_back_by_query_with_six_digits(tmp_path: Path) -> None:
    for query in (10, 2):
        dataclasses.replace(EXAMPLE, query=query).write(tmp_path)
    found, problems = read_examples(tmp_path)
    assert not problems
    assert [example.query for example in found] == [2, 10]
    assert found[1].strongest == [[(3, 1, 0.123457), (6, 3, 1e-7)], []]
    assert dataclasses.replace(found[1], strongest=EXAMPLE.strongest) == EXAMPLE


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"strongest": [[(1, 3, 0.1)], []]}, "does not lead from one of"),
        ({"strongest": [[(7, 3, 0.1)], []]}, "does not lead from one of"),
        ({"strongest": [[(3, 1, "NaN")], []]}, "finite"),
        ({"demonstrations": [{"label": 0, "start": 0, "stop": 99, "anchor": 3, "label_word": [3], "formatting": []}]},
         "does not lie within the 7 tokens"),
        ({"totals": [0.2]}, "some numbers are missing for the 2 layers"),
        ({"signs": [[1], []]}, "signs or heads do not match its flows"),
        ({"signs": [[1, 0], []]}, "1 or -1"),
        ({"heads": [[[0.5], [0.5, 0.5]], []]}, "different numbers of heads"),
        ({"tokens": "text"}, "valid"),
        (None, "JSON"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_the_others_are_read(
    tmp_path: Path, changed: dict[str, object] | None, complaint: str
) -> None:
    whole = EXAMPLE.write(tmp_path)
    content = json.loads(whole.read_text())
    text = whole.read_text()[:99] if changed is None else json.dumps({**content, **changed})
    damaged = whole.with_name("query3.json")
    damaged.write_text(text)
    found, (problem,) = read_examples(tmp_path)
    assert [example.query for example in found] == [10]
    assert str(damaged) in problem
    assert complaint in problem


def test_examples_of_before_there_were_signs_are_read(tmp_path: Path) -> None:
    path = dataclasses.replace(EXAMPLE, heads=()).write(tmp_path)
    content = json.loads(path.read_text())
    assert "heads" not in content
    del content["signs"]
    path.write_text(json.dumps(content))
    (found,), _ = read_examples(tmp_path)
    assert found.signs == found.heads == ()


def test_a_run_without_examples_has_none(tmp_path: Path) -> None:
    assert read_examples(tmp_path) == ([], [])
