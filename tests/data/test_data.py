"""Rows are read as they are or refused with file and line; a source is chosen, named and hashed."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from anchorflow import hub
from anchorflow.data import Dataset, Hub, Novel, Package, Provenance, Task
from anchorflow.errors import UserError
from tests.conftest import write_dataset


def local(path: Path, **given: object) -> Dataset:
    return Dataset(name="local", source="directory", path=str(path), **given)  # type: ignore[arg-type]


def test_a_directory_describes_itself_and_what_is_configured_wins(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, separator="\n\n")
    task = local(folder).load()
    assert (task.separator, task.label_words) == ("\n\n", (" Negative", " Positive"))
    assert task.labels == ("Negative", "Positive")
    assert local(folder, separator=" | ", label_words=(" Sad", " Happy")).load().label_words == (" Sad", " Happy")
    assert [e.row for e in task.test] == list(range(8))
    assert task.provenance.source == "directory"


def test_a_line_break_can_be_typed() -> None:
    typed = Dataset(name="any", template=r"Review: {text}\nSentiment:{label}", separator=r"\n\n")
    assert (typed.template, typed.separator) == ("Review: {text}\nSentiment:{label}", "\n\n")
    assert typed == Dataset(name="any", template="Review: {text}\nSentiment:{label}", separator="\n\n")


def test_the_first_rows_of_each_class_may_be_all_that_is_taken(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    every, first = (local(folder, rows_per_class=n).load() for n in (None, 3))
    rows = [[e.row for e in every.train if e.label == label][:3] for label in (0, 1)]
    assert [e.row for e in first.train] == sorted(rows[0] + rows[1])
    assert first.test == every.test
    with pytest.raises(UserError, match="rows_per_class is 0; allowed: 1 or more, or null for all"):
        local(folder, rows_per_class=0)


def test_label_words_without_a_blank_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_dataset(tmp_path)
    for template, words, warned in (
        ("Review: {text}\nSentiment:{label}", ("Negative", " Positive"), True),
        ("Review: {text}\nSentiment:{label}", (" Negative", " Positive"), False),
        ("Review: {text}\nSentiment: {label}", ("Negative", "Positive"), False),
        ("Review: {text}\nSentiment:\n{label}", ("Negative", "Positive"), False),
        ("评论：{text}\n情感：{label}", ("负", "正"), False),
    ):
        caplog.clear()
        local(folder, template=template, label_words=words).load()
        assert ("without the blank" in caplog.text) == warned, template
        if warned:
            expected = (
                "'Negative' follows 'Sentiment:' without the blank that ordinary text has; write "
                """'dataset.label_words=[" Negative", " Positive"]'"""
            )
            assert expected in caplog.text


def test_the_hash_is_of_the_content_not_of_the_place(tmp_path: Path) -> None:
    one, two = (local(write_dataset(tmp_path / name)).load().provenance.sha256 for name in "ab")
    assert one == two
    (tmp_path / "b" / "test.jsonl").write_text('{"text": "other", "label": 0}\n')
    assert local(tmp_path / "b").load().provenance.sha256["test"] != one["test"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "allowed: an object with text"),
        ('{"label": 0}', "text is None"),
        ('{"text": "  ", "label": 0}', "text is '  '"),
        ('{"text": "a", "label": 2}', "label is 2; allowed: 0 to 1, or Negative, Positive"),
        ('{"text": "a", "label": -1}', "label is -1"),
        ('{"text": "a", "label": true}', "label is True"),
        ('{"text": "a", "label": 1.0}', "label is 1.0"),
        ('{"text": 5, "label": 1}', "text is 5"),
        ('{"text": "a", "label": 0, "label": 1}', "the key 'label' is given twice"),
        ('{"text": "a", "label": 3}', 'Expected: {"text": "Some words.", "label": "Negative"}'),
        ('{"text": "a", "label": "Neutral"}', "label is 'Neutral'"),
        ('{"text": "a"}', "label is None"),
        ('{"text": "a", "label": 0, "demonstrations": []}', "demonstrations is"),
        ('{"text": "a", "label": 0, "demonstrations": [{"text": "b", "label": 7}]}', "label is 7"),
        ('{"text": "\\ud800", "label": 0}', "surrogates not allowed"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_line(tmp_path: Path, line: str, complaint: str) -> None:
    folder = write_dataset(tmp_path)
    with (folder / "test.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError) as refused:
        local(folder).load()
    assert str(refused.value).startswith(f"{folder / 'test.jsonl'}, line 9: ")
    assert complaint in str(refused.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    (folder / "train.jsonl").write_bytes(b'{"text": "\xff", "label": 0}\n')
    with pytest.raises(UserError, match="line 1: not JSON in UTF-8"):
        local(folder).load()


def test_a_class_without_examples_and_an_empty_split_are_refused(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    (folder / "test.jsonl").write_text("")
    with pytest.raises(UserError, match=r"test\.jsonl has no rows"):
        local(folder).load()
    for name in ("train.jsonl", "test.jsonl"):
        (folder / name).write_text('{"text": "a", "label": 0}\n')
    with pytest.raises(UserError, match=r"no train example of class 1 \('Positive'\)"):
        local(folder).load()


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"templates": "x"}, "'templates' is not a key"),
        ({"template": "{text}"}, "must contain {text}"),
        ({"label_words": [" One"]}, "two or more"),
        ({"label_words": [" One", " One"]}, "twice"),
        ({"label_words": [True, False]}, "dataset.yaml.label_words.0 is True: input should be a valid string"),
        ({"label_words": "abc"}, "dataset.yaml.label_words is 'abc'"),
        ({"separator": 5}, "dataset.yaml.separator is 5"),
        (["a", "list"], "dataset.yaml"),
    ],
)
def test_a_wrong_dataset_yaml_is_refused_by_name(tmp_path: Path, said: object, complaint: str) -> None:
    folder = write_dataset(tmp_path)
    (folder / "dataset.yaml").write_text(json.dumps(said))
    with pytest.raises(UserError, match=r"dataset.yaml") as refused:
        local(folder).load()
    assert complaint in str(refused.value)


def test_labels_may_be_named(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, label_names=["bad", "good"])
    (folder / "test.jsonl").write_text('{"text": "a", "label": "good"}\n')
    assert local(folder).load().test[0].label == 1


def test_rows_with_their_own_demonstrations(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    own = [{"text": "one", "label": 1}, {"text": "two", "label": 0}]
    (folder / "test.jsonl").write_text(json.dumps({"text": "a", "label": 0, "demonstrations": own}) + "\n")
    found = local(folder).load().test[0].demonstrations
    assert found is not None
    assert [(d.text, d.label) for d in found] == [("one", 1), ("two", 0)]


def test_a_pair_task_needs_the_second_text(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, template="{text} / {text_pair}:{label}")
    with pytest.raises(
        UserError,
        match=r"has no column text_pair; it has text, label\. .*dataset.columns={text: text, label: label, text_pair: COLUMN3}",
    ):
        local(folder).load()


def test_auto_tries_directory_hub_package_in_this_order_and_says_why_none_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = {"template": "Review: {text}\nSentiment:{label}", "label_words": (" Negative", " Positive")}
    there = Package(name="StaICC", file="cached_dataset/sst2.dataset", labels=(0, 1))
    place = Hub(id="no/where", names=("negative", "positive"))
    write_dataset(tmp_path / "sst2")
    assert Dataset(name="sst2", root=str(tmp_path), hub=place, package=there, **written).load().provenance.source == (
        "directory"
    )
    hub.reachable.cache_clear()
    (tmp_path / "empty").mkdir()
    task = Dataset(name="sst2", root=str(tmp_path / "empty"), hub=place, package=there, **written).load()
    assert (task.provenance.source, task.provenance.revision) == ("package", "0.1.1")
    frozen = [
        Dataset(name="sst2", root=root, source="package", package=there, **written)
        for root in (None, "", str(tmp_path))
    ]
    assert {one.root for one in frozen} == {None}, "a run must not be another one for a variable that has no effect"
    nowhere = Package(name="no_such_package", file="x", labels=(0, 1))
    with pytest.raises(UserError) as refused:
        Dataset(name="sst2", hub=place, package=nowhere, **written).load()
    for part in ("ANCHORFLOW_DATA", "no/where: the hub cannot be reached", "no_such_package is not installed"):
        assert part in str(refused.value)


def test_a_package_is_split_so_that_equal_texts_stay_together() -> None:
    package = Package(name="StaICC", file="cached_dataset/trec.dataset", labels=(0, 1, 2, 3, 4, 5))
    words = (" Abbreviation", " Entity", " Description", " Person", " Location", " Number")
    task = Dataset(name="trec", source="package", package=package, template="{text}:{label}", label_words=words).load()
    train, test = ({e.text.lower() for e in split} for split in (task.train, task.test))
    assert not train & test
    assert 0.15 < len(task.test) / (len(task.train) + len(task.test)) < 0.25
    known = {e.text: e.label for e in (*task.train, *task.test)}
    assert known["Who was Red Grange ?"] == 3


def test_a_template_for_pairs_needs_a_source_of_pairs() -> None:
    package = Package(name="StaICC", file="cached_dataset/trec.dataset", labels=(0, 1))
    data = Dataset(
        name="x", source="package", package=package, template="{text}/{text_pair}:{label}", label_words=(" A", " B")
    )
    with pytest.raises(UserError, match=r"uses {text_pair}, but the rows of .* have only one text"):
        data.load()


def test_a_pickle_that_could_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    (tmp_path / "evil_package").mkdir()
    (tmp_path / "evil_package" / "__init__.py").write_text("")
    (tmp_path / "evil_package" / "rows").write_bytes(pickle.dumps([Path("/")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    package = Package(name="evil_package", file="rows", labels=(0, 1))
    data = Dataset(name="x", source="package", package=package, template="{text}:{label}", label_words=("a", "b"))
    with pytest.raises(UserError, match="allowed: plain lists"):
        data.load()


def test_the_hub_is_asked_for_names_not_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])}
    )
    rows = {"sentence": ["fine ", "awful", "great", "poor"], "label": [0, 1, 0, 1]}
    split = datasets.Dataset.from_dict(rows, features=features)
    splits = datasets.DatasetDict(train=split.select([0, 1]), validation=split)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: splits)
    place = Hub(id="some/where", holds="GLUE", text="sentence", names=("neg", "pos"), test="validation")
    task = Dataset(
        name="x", source="hub", hub=place, template="{text}:{label}", label_words=(" Negative", " Positive")
    ).load()
    assert [(e.text, e.label) for e in task.test] == [("fine", 1), ("awful", 0), ("great", 1), ("poor", 0)]
    assert (task.provenance.source, task.provenance.split, task.provenance.overlap) == ("hub", "validation", 2)
    assert task.shown == "x, GLUE (hub)"
    with pytest.raises(UserError, match=r"no split 'test'; it has train, validation: write dataset.hub.test="):
        Dataset(name="x", source="hub", hub=replace(place, test="test"), template="{text}:{label}").load()


def test_draws_depend_on_the_seed_and_nothing_else(tmp_path: Path) -> None:
    task = local(write_dataset(tmp_path, train=40, test=30)).load()
    assert task.draw_queries(10, 42) == task.draw_queries(10, 42) != task.draw_queries(10, 43)
    assert task.draw_queries(None, 42) == list(task.test)
    drawn = task.draw_demonstrations(3, "42/demonstrations/5")
    assert drawn == task.draw_demonstrations(3, "42/demonstrations/5")
    assert Counter(e.label for e in drawn) == {0: 3, 1: 3}
    assert len({e.row for e in drawn}) == 6
    # Nested: more per class begin with fewer, in rounds of one per class.
    assert task.draw_demonstrations(20, "42/demonstrations/5")[:6] == drawn
    assert task.draw_demonstrations(1, "42/demonstrations/5") == drawn[:2]
    assert {e.row for e in task.draw_demonstrations(20, "x")} == {e.row for e in task.train}
    with pytest.raises(UserError, match="n_queries is 31; local has 30"):
        task.draw_queries(31, 42)
    with pytest.raises(UserError, match=r"shots_per_class is 21.*20 examples of 'Negative'"):
        task.draw_demonstrations(21, "x")


def test_the_novel_task_follows_its_rule_which_its_seed_decides() -> None:
    written = {"template": "{text}:{label}", "label_words": (" circle", " square")}
    task = Novel(name="novel", **written).load()
    clans: dict[str, set[int]] = {}
    for example in (*task.train, *task.test):
        clans.setdefault(example.text.split()[0], set()).add(example.label)
    assert all(len(labels) == 1 for labels in clans.values())
    assert Counter(min(labels) for labels in clans.values()) == {0: 6, 1: 6}
    assert task == Novel(name="novel", **written).load()
    assert task.train != Novel(name="novel", rule_seed=1, **written).load().train


def test_a_home_directory_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_dataset(tmp_path / "mine")
    assert local(Path("~/mine")).load().test
    with pytest.raises(UserError, match=r"dataset.path is '~nobody-there/mine', which is not there"):
        local(Path("~nobody-there/mine")).load()


def test_rows_count_in_the_hash_since_demonstrations_are_drawn_by_them(task: Task) -> None:
    moved = tuple(replace(example, row=example.row + 1) for example in task.test)
    assert replace(task, test=moved).provenance.sha256["test"] != task.provenance.sha256["test"]
    assert replace(task, name="other").provenance.sha256 == task.provenance.sha256


def test_results_show_what_a_source_holds(tmp_path: Path, task: Task) -> None:
    folder = write_dataset(tmp_path)
    assert local(folder).load().shown == "local (directory)"
    (folder / "test.jsonl").rename(folder / "validation.jsonl")
    assert local(folder, test_file="validation.jsonl").load().shown == "local, validation (directory)"
    assert local(folder, test_file="validation.jsonl", holds="reviews").load().shown == "local, reviews (directory)"
    described = write_dataset(tmp_path / "described", holds="half of them")
    assert local(described).load().shown == "local, half of them (directory)"
    assert replace(task, provenance=Provenance("given", None)).shown == task.name


def test_a_directory_without_one_of_its_splits_is_refused_and_no_other_source_taken(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "sst2")
    there = Package(name="StaICC", file="cached_dataset/sst2.dataset", labels=(0, 1))
    rooted = Dataset(name="sst2", root=str(tmp_path), package=there, test_file="validation.jsonl")
    with pytest.raises(UserError) as refused:
        rooted.load()
    assert str(refused.value) == (
        f"{folder} has no validation.jsonl; it has test.jsonl, train.jsonl. Write dataset.test_file=FILE, or another source "
        "(dataset.source=package)."
    )
    with pytest.raises(UserError, match=r"has no other.jsonl; .* Write dataset.train_file=FILE\.$"):
        local(folder, train_file="other.jsonl").load()


def test_the_overlap_of_test_and_train_is_counted(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path)
    with (folder / "test.jsonl").open("a") as file:
        file.write('{"text": "  train sentence 0 ", "label": 1}\n')  # trimmed, and whatever its label
    provenance = local(folder).load().provenance
    assert provenance.overlap == 1
    assert provenance.examples == {"train": 12, "test": 9}
    assert local(folder, test_file="train.jsonl").load().provenance.overlap == 12


def test_the_content_of_a_test_split_is_the_same_in_any_order(tmp_path: Path, task: Task) -> None:
    turned = replace(task, test=tuple(reversed(task.test))).provenance
    assert turned.test_content == task.provenance.test_content != replace(task, test=task.train).provenance.test_content
    assert turned.sha256["test"] != task.provenance.sha256["test"]


def test_what_auto_chose_can_be_frozen(tmp_path: Path) -> None:
    write_dataset(tmp_path / "sst2")
    written = {"template": "Review: {text}\nSentiment:{label}", "label_words": (" Negative", " Positive")}
    auto = Dataset(name="sst2", root=str(tmp_path), **written)
    assert auto.frozen(auto.load()) == {"source": "directory"}
    named = replace(auto, source="directory")
    assert named.frozen(named.load()) == {}
    novel = Novel(name="novel", **written)
    assert novel.frozen(novel.load()) == {}
