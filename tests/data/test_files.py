"""Files of every kind give the same task; columns are found by name; an error says what to write."""

import csv
import gzip
import json
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anchorflow.data import Dataset, Hosted, Task
from anchorflow.errors import UserError
from tests.conftest import ROOT

TEMPLATE = "Review: {text}\nSentiment:{label}"
WORDS = (" Negative", " Positive")
ROWS = [
    {"text": "NA", "label": 0},
    {"text": "007", "label": 1},
    {"text": 'a "quoted", comma', "label": 0},
    {"text": "two\nlines\r\nor three\u2028still one row", "label": 1},
    {"text": "日本語 😀 \ufeff", "label": 0},
]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """A file of these rows, of the kind that its name says."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
        return path
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if kind == "json":
            json.dump(rows, file)
        elif kind == "jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    return path


def load(path: Path, **given: Any) -> Task:
    return Dataset(
        **{"path": str(path), "source": "directory", "template": TEMPLATE, "label_words": WORDS} | given
    ).load()


KINDS = ("jsonl", "json", "csv", "tsv", "parquet", "jsonl.gz", "json.gz", "csv.gz", "tsv.gz")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_holds_the_same_task(kind: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / f"{split}.{kind}", ROWS)
    task = load(tmp_path, name="mine")
    assert [(e.row, e.text, e.label) for e in task.train] == [
        (i, row["text"].strip(), row["label"]) for i, row in enumerate(ROWS)
    ]
    assert task.test == task.train


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
rows = st.lists(st.tuples(texts, st.integers(0, 1)), min_size=2, max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows)
def test_texts_of_all_scripts_come_back_from_every_kind_of_file(found: list[tuple[str, int]]) -> None:
    made = [{"text": text, "label": label} for text, label in [*found, ("one", 0), ("two", 1)]]
    with tempfile.TemporaryDirectory() as folder:
        tasks = []
        for kind in ("jsonl", "csv", "tsv", "parquet"):
            (place := Path(folder) / kind).mkdir()
            for split in ("train", "test"):
                write(place / f"{split}.{kind}", made)
            tasks.append(load(place, name="mine", refuse=()))
    assert [e.text for e in tasks[0].train] == [row["text"].strip() for row in made]
    assert all(task == tasks[0] for task in tasks)


def test_a_byte_order_mark_and_line_breaks_of_windows_are_no_part_of_a_text(tmp_path: Path) -> None:
    for name, content in (
        ("train.csv", "\ufefftext,label\r\nbad,0\r\ngood,1\r\n"),
        ("test.jsonl", '\ufeff{"text": "bad", "label": 0}\r\n\r\n{"text": "fine", "label": 1}\r\n'),
    ):
        (tmp_path / name).write_bytes(content.encode())
    task = load(tmp_path)
    assert [(e.row, e.text) for e in task.train] == [(0, "bad"), (1, "good")]
    assert [(e.row, e.text) for e in task.test] == [(0, "bad"), (1, "fine")]


def test_one_file_is_split_by_a_hash_and_is_called_after_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = [{"text": f"number {i}", "label": i % 2} for i in range(100)]
    with caplog.at_level(logging.INFO):
        task = load(write(tmp_path / "reviews.csv", made))
    assert (task.name, task.shown) == ("reviews", "reviews (directory)")
    assert 10 < len(task.test) < 35
    assert sorted(e.row for e in (*task.train, *task.test)) == list(range(100))
    assert "has no test split; a hash of the texts selects a fifth of its rows as one" in caplog.text
    (folder := tmp_path / "my-reviews").mkdir()
    (tmp_path / "reviews.csv").rename(folder / "all.csv")
    alone = load(folder)
    assert (alone.name, alone.test) == ("my-reviews", task.test)


def test_what_datasets_saved_to_disk_is_read_with_the_names_of_its_labels(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"review": datasets.Value("string"), "polarity": datasets.ClassLabel(names=["bad", "good"])}
    )
    split = datasets.Dataset.from_dict({"review": ["x", "y", "z"], "polarity": [1, 0, 1]}, features=features)
    datasets.DatasetDict(train=split, validation=split).save_to_disk(str(tmp_path / "saved"))
    task = load(tmp_path / "saved", label_words=None, test_file="validation")
    assert task.label_words == (" bad", " good")
    assert [(e.text, e.label) for e in task.test] == [("x", 1), ("y", 0), ("z", 1)]
    turned = load(tmp_path / "saved", label_words=(" Yes", " No"), label_names=("good", "bad"), test_file="validation")
    assert [e.label for e in turned.test] == [0, 1, 0]
    with pytest.raises(UserError, match=r"has no split 'test'; it has train, validation: write dataset.test_file=NAME"):
        load(tmp_path / "saved")
    split.to_parquet(str(tmp_path / "train.parquet"))
    split.to_parquet(str(tmp_path / "test.parquet"))
    assert load(tmp_path, label_words=None).test == task.test
    long = {"review": [str(i) for i in range(30)], "polarity": [i % 2 for i in range(30)]}
    datasets.Dataset.from_dict(long, features=features).save_to_disk(str(tmp_path / "alone"))
    assert len(load(tmp_path / "alone").train) + len(load(tmp_path / "alone").test) == 30
    (tmp_path / "alone" / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match=r"alone cannot be read \("):
        load(tmp_path / "alone")
    (tmp_path / "train.parquet").write_text("no such thing")
    with pytest.raises(UserError, match=r"train.parquet: not Parquet \("):
        load(tmp_path)


def test_any_dataset_of_the_hub_is_taken_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    split = datasets.Dataset.from_dict({"sentence": ["x", "y"], "label": [1, 0]}, features=features)
    hidden = datasets.Dataset.from_dict({"sentence": ["x", "y"], "label": [-1, -1]}, features=features)
    asked = []

    def answer(*where: Any, **more: Any) -> Any:
        asked.append((*where, more["revision"]))
        return datasets.DatasetDict(train=split, validation=split, test=hidden)

    monkeypatch.setattr(datasets, "load_dataset", answer)
    given = {"id": "nyu-mll/glue", "subset": "sst2", "revision": "main", "template": TEMPLATE}
    task = Hosted(**given, test_split="validation").load()
    assert asked == [("nyu-mll/glue", "sst2", "main")]
    assert (task.shown, task.label_words) == ("glue-sst2, validation (hub)", (" neg", " pos"))
    assert [(e.text, e.label) for e in task.test] == [("x", 1), ("y", 0)]
    with pytest.raises(UserError, match=r"split test, row 1: label is -1, which marks withheld labels"):
        Hosted(**given).load()
    with pytest.raises(
        UserError, match=r"no split 'valid'; it has .*: write dataset.test_split=NAME\. Did you mean validation\?"
    ):
        Hosted(**given, test_split="valid").load()
    with pytest.raises(UserError, match=r"id is missing; write dataset.id=OWNER/NAME"):
        Hosted(template=TEMPLATE)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"dataset.id is 'no/where', which cannot be loaded: no/where: the hub cannot"):
        Hosted(id="no/where", template=TEMPLATE).load()


@pytest.mark.parametrize(
    ("header", "given", "found"),
    [
        ("sentence,label", {}, ("first", 0)),
        ("text,polarity", {}, ("first", 0)),
        ("idx,sentence,label", {}, ("first", 0)),
        ("sentence,polarity", {}, ("first", 0)),
        ("sentence,note,polarity", {"columns": {"text": "sentence", "label": "polarity"}}, ("first", 0)),
        ("note,text,label", {"columns": {"text": "note"}}, ("note 0", 0)),
    ],
)
def test_columns_are_mapped_or_guessed_where_there_is_one_choice(
    header: str, given: dict[str, Any], found: tuple[str, int], tmp_path: Path
) -> None:
    values = {"idx": "5", "note": "note 0", "sentence": "first", "text": "first", "label": "0", "polarity": "0"}
    for split in ("train", "test"):
        lines = [header, ",".join(values[c] for c in header.split(","))]
        lines.append(",".join({**values, "label": "1", "polarity": "1"}[c] for c in header.split(",")))
        (tmp_path / f"{split}.csv").write_text("\n".join(lines))
    example = load(tmp_path, **given).test[0]
    assert (example.text, example.label) == found


def test_labels_may_be_words_and_give_the_label_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = [{"text": f"number {i}", "label": ("spam", "ham")[i % 2]} for i in range(40)]
    with caplog.at_level(logging.INFO):
        task = load(write(tmp_path / "mail.csv", made), label_words=None)
    assert task.label_words == (" ham", " spam")
    assert "label words: ' ham', ' spam', from the labels of" in caplog.text
    stars = load(
        write(tmp_path / "stars.jsonl", [{"text": f"number {i}", "label": 1 + i % 2} for i in range(40)]),
        label_names=("1", "2"),
    )
    assert {e.label for e in stars.train} == {0, 1}
    with pytest.raises(UserError, match=r"label is 'spam'; allowed: 0 to 1, or Negative, Positive"):
        load(tmp_path / "mail.csv")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "x.csv",
            "text,label\na,b,1\n",
            "x.csv, line 2: 3 values for the 2 columns text, label; a value that contains ','",
        ),
        ("x.csv", "text,text\na,1\n", "line 1: the column 'text' is given twice"),
        ("x.csv", 'text,label\n"a,1\n', "line 2: unexpected end of data"),
        (
            "x.csv",
            "text;label\na;1\n",
            "has no column text and no label; it has text;label. Name the columns: 'dataset.co",
        ),
        ("x.csv", b"text,label\n\xff,1\n", "x.csv, line 2 (byte 0xff at position 0): not text in UTF-8"),
        (
            "x.csv",
            "first,second,note\na,1,b\n",
            "'dataset.columns={text: COLUMN1, label: COLUMN2}'. Its first row: {'first':",
        ),
        ("x.csv", "first,second\na,b\nc,d\n", "has no column text and no label"),
        ("x.json", '[{"text": "a"', "x.json: not JSON"),
        ("x.json", b"\xff", "not JSON in UTF-8"),
        ("x.json", '[{"text": "a", "text": "b"}]', "x.json: the key 'text' is given twice"),
        ("x.json", "[1]", "x.json, row 1: the row is 1; allowed: an object"),
        ("x.jsonl.gz", "no gzip", "x.jsonl.gz: Not a gzipped file"),
        ("x.txt", "a", "x.txt is not a file of examples; allowed: .jsonl, .jsonl.gz, .json"),
        ("x.csv", "text,label\na,0\n ,1\nb,1\nc,\n", "line 5: label is ''; allowed: 0 to 1"),
        (
            "x.csv",
            "text,label\na,0\n ,1\nb,1\n",
            "line 3: text is ' '; allowed: a text that is not empty. Of 3 rows 1 have",
        ),
        ("x.csv", "text,label\na,0\n\0b,1\n", "line 3: a text contains the character NUL"),
        ("x.csv", "", "x.csv has no rows."),
        ("x.csv", "text,label\n", "x.csv has no rows."),
        ("x.csv", "text,label\na,7\nb,2\n", 'classes in this order, write \'dataset.label_names=["2", "7"]\'.'),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_what_to_write(
    name: str, content: str | bytes, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as refused:
        load(tmp_path / name)
    assert complaint in str(refused.value)
    assert str(tmp_path / name) in str(refused.value)


def test_a_column_that_is_not_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", [{"sentence": "a", "label": 0}])
    with pytest.raises(
        UserError, match=r"maps text to 'sentense', which .*; it has sentence, label\. Did you mean sentence\?"
    ):
        load(path, columns={"text": "sentense"})
    with pytest.raises(UserError, match=r"dataset.template is missing.*'dataset.template=\"Review: {text}\\nSentiment"):
        load(path, template=None)
    with pytest.raises(
        UserError, match=r"label_words is missing.*'dataset.label_words=\[\" negative\", \" positive\"\]'"
    ):
        load(path, label_words=None)
    numbers = write(tmp_path / "y.csv", [{"text": "a", "label": 10}, {"text": "b", "label": 9}])
    with pytest.raises(UserError, match=r"label_words is missing.* It has the labels 9, 10\."):
        load(numbers, label_words=None)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ((), "has no train.jsonl, and no other file of examples; allowed: .jsonl"),
        (("train.csv",), "has no test.jsonl; it has train.csv. Write dataset.test_file=FILE, or dataset.path="),
        (
            ("train.csv", "train.jsonl", "test.csv"),
            "has train.csv and train.jsonl.gz; name one with dataset.train_file",
        ),
        (("train.csv", "dev.csv"), "has no test.jsonl; it has dev.csv, train.csv. Write dataset.test_file=FILE."),
    ],
)
def test_a_directory_without_a_split_says_what_it_has(files: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    for name in files:
        write(tmp_path / name.replace("jsonl", "jsonl.gz"), ROWS)
    with pytest.raises(UserError) as refused:
        load(tmp_path)
    assert complaint in str(refused.value)


def test_a_root_that_is_not_there_is_an_error_and_no_other_source_is_taken(tmp_path: Path) -> None:
    lost = Dataset(name="sst2", root=str(tmp_path / "dtaa"), template=TEMPLATE, label_words=WORDS)
    with pytest.raises(
        UserError, match=r"ANCHORFLOW_DATA .* is '.*dtaa', which is not a directory; looked for .*dtaa/sst2"
    ):
        lost.load()
    (tmp_path / "sst2").mkdir()
    with pytest.raises(UserError, match=r"sst2 has no train.jsonl, and no other file of examples"):
        Dataset(name="sst2", root=str(tmp_path), template=TEMPLATE, label_words=WORDS).load()


@pytest.mark.slow
def test_the_own_data_of_the_docs_works_as_it_is_written(tmp_path: Path) -> None:
    section = (ROOT / "docs" / "data.md").read_text().partition("## Your own data")[2]
    found = re.search(r"```bash\n(.*?)```", section, re.S)
    assert found is not None
    assert len(found[1].splitlines()) == 5
    script = found[1].replace("python launch.py", f"{sys.executable} {ROOT / 'launch.py'}")
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = (tmp_path / "outputs" / "classification" / "tiny" / "reviews").glob("seed42-*/result.json")
    found_there = json.loads(result.read_text())
    assert sum(found_there["data"]["examples"].values()) == 40
    assert found_there["tables"]["confusion"]["rows"] == ["bad", "good"]
