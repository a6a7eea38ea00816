"""What is wrong with a task is counted and told, or refused; a query is never among its own demonstrations."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anchorflow.data import Dataset, Example, Task, texts
from anchorflow.errors import UserError
from anchorflow.experiments import Classification, Reweighting, Saliency
from tests.conftest import write_dataset

ROWS = """
{"text": "same", "label": 0}
{"text": "same", "label": 0}
{"text": "both", "label": 0}
{"text": "both", "label": 1}
{"text": " ", "label": 1}
{"text": "n\\u0000l", "label": 1}
"""


def load(folder: Path, **given: Any) -> Task:
    return Dataset(name="local", source="directory", path=str(folder), **given).load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = write_dataset(tmp_path / "data")
    (made / "train.jsonl").write_text(ROWS)
    (made / "test.jsonl").write_text('{"text": "same", "label": 0}\n{"text": "new", "label": 1}\n')
    return made


def test_what_is_not_refused_is_counted_and_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        task = load(folder, refuse=())
    assert [e.text for e in task.train] == ["same", "same", "both", "both", "n\0l"]
    given = task.provenance
    assert (given.duplicates, given.conflicts, given.overlap) == (1, 1, 1)
    assert "1 repeat the text and label of an earlier row; 1 texts have more than one label" in caplog.text
    assert (
        "line 6: text is ' '; allowed: a text that is not empty. Of 6 rows 1 have none; they are left out"
        in caplog.text
    )
    assert "line 7: a text contains the character NUL" in caplog.text


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("missing", "line 6: text is ' '"),
        ("nul", "line 7: a text contains the character NUL"),
        ("duplicates", "1 repeat the text and label of an earlier row, such as 'same'"),
        ("conflicts", "1 texts have more than one label, such as 'both'"),
        ("overlap", "1 test examples have the text of a train example, such as 'same'"),
    ],
)
def test_what_is_refused_says_how_to_let_it_through(kind: str, complaint: str, folder: Path) -> None:
    with pytest.raises(UserError) as refused:
        load(folder, refuse=(kind,))
    assert complaint in str(refused.value)
    assert "with 'dataset.refuse=[]'" in str(refused.value)


def test_duplicates_of_the_test_split_are_found(folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n')
    (folder / "test.jsonl").write_text('{"text": "c", "label": 0}\n{"text": "c", "label": 0}\n')
    with pytest.raises(UserError, match="such as 'c'"):
        load(folder, refuse=("duplicates",))


@pytest.mark.parametrize(
    "content", ['template: "{text}:{label}"\ntemplate: "{text} ?{label}"\n', "\ufeffholds: a\nholds: b\n"]
)
def test_a_key_given_twice_in_dataset_yaml_is_refused(content: str, folder: Path) -> None:
    (folder / "dataset.yaml").write_text(content)
    with pytest.raises(UserError, match=r"dataset.yaml: the key '(template|holds)' is given twice"):
        load(folder)


def examples(n: int, split: str) -> tuple[Example, ...]:
    return tuple(Example(i, f"{split} {i}", i % 3) for i in range(n))


def test_a_query_is_never_among_its_own_demonstrations(task: Task) -> None:
    same = replace(task, test=task.train)
    for experiment in (Saliency(n_queries=None), Classification(n_queries=10, shots_per_class=2)):
        drawn = list(experiment.draw(same, 42))
        assert all(texts(query) not in map(texts, shown) for shown, query in drawn)
        assert {len(shown) for shown, _ in drawn} == {3 * experiment.shots_per_class}
    further = Reweighting(n_queries=9)._further(same, 42)
    asked = {texts(query) for query in same.draw_queries(9, 42)}
    assert not asked & set(map(texts, further))
    with pytest.raises(UserError, match=r"the train split of toy has 10 examples of 'Person', 0 of them no query"):
        list(Classification(n_queries=None).draw(same, 42))


def test_no_other_draw_changes(task: Task) -> None:
    """Examples that are passed over leave the rest of the draw in its order."""
    whole = task.draw_demonstrations(10, "key")
    assert task.draw_demonstrations(4, "key", apart_from={texts(whole[-1])}) == whole[:12]
    apart = {texts(whole[0])}
    without = task.draw_demonstrations(9, "key", apart_from=apart)
    assert whole[0] not in without
    assert len({e.row for e in without}) == 27
    assert task.draw_demonstrations(2, "key", apart_from=apart) == without[:6]
