"""Load a task from files, the hub, or a Python package.

Copies of one dataset differ. Every source therefore declares what it holds, and a sweep freezes the source that `auto` chose.
Labels are matched by name, so the numbering of a source does not matter.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from anchorflow.data import columns, directory
from anchorflow.data.checks import refuse_problems
from anchorflow.data.rows import Reading, labels_in, names_in
from anchorflow.data.sources import Hub, NotHere, Package, split_by_text
from anchorflow.data.tables import suffix
from anchorflow.data.task import Example, Provenance, Task
from anchorflow.data.templates import Template
from anchorflow.errors import UserError, typed
from anchorflow.paths import expanded
from anchorflow.settings import build, configurable, setting

log = logging.getLogger(__name__)

SOURCES = ("directory", "hub", "package")
"""The sources that `auto` tries, in this order."""
Column = Literal["text", "text_pair", "label"]
Problem = Literal["missing", "nul", "duplicates", "conflicts", "overlap"]
SHOWN = 10
"""The most labels in a message."""
DESCRIBED = ("template", "label_words", "label_names", "separator", "holds", "columns")
"""The keys that a `dataset.yaml` may have."""


@configurable
class Dataset:
    """A dataset: how its examples are written in a prompt, and where they are found."""

    name: str = ""
    """The name in results, directories and instructions; default: the last part of `path`."""
    template: str | None = None
    """How an example is written: fixed text around {text}, {text_pair} and, at the end, {label}."""
    label_words: tuple[str, ...] | None = None
    """The word of each class, including the blank before it."""
    label_names: tuple[str, ...] | None = setting(default=None, kind="source")
    """Class names that a row's `label` may have instead of a number."""
    separator: str | None = None
    """The text between examples; null means one newline."""
    rows_per_class: int | None = setting(default=None, kind="source")
    """Use only this many rows of each class of the train split, from its beginning; null uses all."""
    source: Literal["auto", "directory", "hub", "package"] = setting(default="auto", kind="source")
    """Where to look; auto takes the first of directory, hub and package that has the dataset. A sweep freezes that choice."""
    holds: str | None = setting(default=None, kind="shown")
    """A short description of the directory's files for results ("sentences"); hub and package have their own."""
    path: str | None = setting(default=None, kind="source")
    """A directory with `train_file` and `test_file`, or one file, which is split by a hash of its texts. Formats: JSON lines,
    JSON, CSV, TSV (all may be gzipped), Parquet, and the output of `datasets.save_to_disk`."""
    root: str | None = setting(default=None, kind="source")
    """A directory of datasets; without `path`, the dataset is read from `root`/`name`."""
    train_file: str = setting(default="train.jsonl", kind="source")
    """The file of the train split; the same name with another ending (train.csv) is found, too."""
    test_file: str = setting(default="test.jsonl", kind="source")
    """The file of the test split."""
    hub: Hub | None = setting(default=None, kind="source")
    """Its place on the hub."""
    package: Package | None = setting(default=None, kind="source")
    """The Python package that contains it."""
    columns: dict[Column, str] | None = setting(default=None, kind="source")
    """The columns of the fields, if they have other names: {text: sentence, label: polarity}."""
    refuse: tuple[Problem, ...] = setting(default=("missing", "nul"), kind="source")
    """Problems that are errors: rows with a missing (or empty) text, texts with a NUL, duplicates (same texts and label as an
    earlier row), conflicts (one text, two labels), overlap (test texts in train). The others are counted, and rows without
    text are left out."""

    def __post_init__(self) -> None:
        for key in ("template", "separator"):  # a command line has no line breaks: one types \n
            if (given := getattr(self, key)) is not None:
                object.__setattr__(self, key, given.replace("\\n", "\n").replace("\\t", "\t"))
        if not self.root or self.source in ("hub", "package"):  # it has no effect, also not on the name of a run
            object.__setattr__(self, "root", None)
        if self.template is not None:
            Template(self.template)
        if self.label_words is not None:
            check_label_words(self.label_words)
            hub_names = None if self.hub is None else self.hub.names
            for names, where in ((self.label_names, "label_names"), (hub_names, "hub.names")):
                if names is not None and len(names) != len(self.label_words):
                    raise ValueError(f"{where} has {len(names)} entries, label_words has {len(self.label_words)}")
        if not self.name:
            object.__setattr__(self, "name", self._named())
        if self.rows_per_class is not None and self.rows_per_class < 1:
            raise ValueError(f"rows_per_class is {self.rows_per_class}; allowed: 1 or more, or null for all")
        for kind in ("hub", "package"):
            if self.source == kind and getattr(self, kind) is None:
                raise ValueError(f"source is {kind!r}, which does not have {self.name}; allowed: auto, directory")

    def _named(self) -> str:
        if self.path is None:
            raise ValueError(
                "path is missing; dataset=local needs dataset.path=DIR, or a file (.jsonl, .csv, .parquet)"
            )
        name = expanded(self.path).resolve().name
        return name.removesuffix(suffix(Path(name))) or name

    def load(self) -> Task:
        """The task, from the first source that has it. UserError if none has it, or for an invalid row."""
        sources = SOURCES if self.source == "auto" else (self.source,)
        reasons = []
        for source in sources:
            try:
                task: Task = getattr(self, f"_from_{source}")()
            except NotHere as reason:
                reasons.append(f"{source}: {reason}")
                continue
            revision = task.provenance.revision
            log.info(
                "data: %s, from %s%s%s, %d train and %d test examples",
                *(task.shown, source, " (chosen by auto)" * (self.source == "auto")),
                *(f" revision {revision}" if revision else "", len(task.train), len(task.test)),
            )
            return task
        raise UserError(f"dataset {self.name} was not found. " + "; ".join(reasons) + ".")

    def frozen(self, task: Task) -> dict[str, Any]:
        """The settings that tie the dataset to the source `task` came from: later loads use it or fail."""
        source = task.provenance.source
        return {"source": source} if self.source == "auto" and source in SOURCES else {}

    def without_split(self, task: Task) -> str | None:
        """The objection if the source of `task` lacks the test split that other sources have; else None."""
        official = None if self.hub is None else self.hub.test
        if official is None or task.provenance.split is not None:
            return None
        files = f"{self.name}/{self.train_file} and {self.name}/{self.test_file}"
        return (
            f"{task.shown} has no {official} split of its own. Set ANCHORFLOW_DATA to a directory with {files}, or "
            f"accept a fifth of its rows as test split with dataset.source={task.provenance.source}."
        )

    def task(self, train: list[Example], test: list[Example], provenance: Provenance, where: str) -> Task:
        """The checked task of these examples; error messages call their place `where`."""
        if self.template is None:
            raise UserError(self._missing("template", "Review: {text}\nSentiment:{label}", where))
        if self.label_words is None:
            raise UserError(self._missing("label_words", [" negative", " positive"], where))
        train = _first_of_each(train, self.rows_per_class)
        present = Counter(example.label for example in train)
        for label, word in enumerate(self.label_words):
            if not present[label]:
                raise UserError(f"{where}: no train example of class {label} ({word.strip()!r}).")
        warn_of_missing_blank(Template(self.template), self.label_words)
        if not test:
            raise UserError(f"{where}: the test split has no examples.")
        if Template(self.template).pair and any(example.text_pair is None for example in (*train, *test)):
            raise UserError(f"dataset.template uses {{text_pair}}, but the rows of {where} have only one text.")
        made = Task(
            name=self.name,
            template=Template(self.template),
            separator="\n" if self.separator is None else self.separator,
            label_words=self.label_words,
            train=tuple(train),
            test=tuple(test),
            provenance=provenance,
        )
        refuse_problems(made, self.refuse, where)
        return made

    def from_tables(self, splits: directory.Splits, provenance: Provenance, where: str) -> Task:
        """The task of the rows of these splits. Without a test split, a hash of the texts splits the train rows."""
        train, test = splits
        for table in filter(None, splits):
            if not table.rows:
                raise UserError(f"{table.place} has no rows.")
        if self.template is None:
            raise UserError(self._missing("template", "Review: {text}\nSentiment:{label}", where))
        named = self.label_names or tuple(word.strip() for word in self.label_words or ())
        found = columns.find(train, self.columns or {}, Template(self.template).pair, named)  # type: ignore[arg-type]
        names = named or names_in(train, found["label"])
        if not names:
            missing = self._missing("label_words", [" negative", " positive"], where)
            there = labels_in(train, found["label"])
            raise UserError(f"{missing} It has the labels {', '.join(there)}." if 0 < len(there) <= SHOWN else missing)
        words = self.label_words or tuple(f" {name}" for name in names)
        if self.label_words is None:
            log.info("label words: %s, from the labels of %s", ", ".join(map(repr, words)), train.place)
        reading = Reading(found, names, self.refuse)
        examples = reading.examples(train)
        if test is None:
            examples, queries = split_by_text(examples)
            log.info("split: %s has no test split; a hash of the texts selects a fifth of its rows as one", train.place)
        else:
            queries = reading.examples(test)
        return replace(self, label_words=words).task(examples, queries, provenance, where)

    def _missing(self, key: str, example: object, where: str) -> str:
        return (
            f"dataset.{key} is missing. Write, for example, {typed(f'dataset.{key}', example)}, or put {key}: into a "
            f"dataset.yaml next to {where}."
        )

    def _from_directory(self) -> Task:
        if self.path is not None:
            place = expanded(self.path)
        elif self.root:
            place = expanded(self.root) / self.name
            if not place.parent.is_dir():
                raise UserError(
                    f"ANCHORFLOW_DATA (dataset.root) is {self.root!r}, which is not a directory; looked for {place}. Correct "
                    "it, or unset it to use another source."
                )
        else:
            raise NotHere("neither ANCHORFLOW_DATA nor dataset.path is set")
        if not place.exists():
            if self.path is not None:
                raise UserError(
                    f"dataset.path is {self.path!r}, which is not there; allowed: a directory, or a file of examples."
                )
            raise NotHere(f"{place} is not there")
        others = [kind for kind in ("hub", "package") if getattr(self, kind) is not None]
        instead = f", or another source (dataset.source={'|'.join(others)})" if others and self.path is None else ""
        train, test = directory.read_splits(place, self.train_file, self.test_file, instead)
        said = directory.described(place, DESCRIBED)
        own = {key: value for key, value in said.items() if getattr(self, key) is None}
        described: Dataset = build(vars(self) | own, str(place / "dataset.yaml"), Dataset) if own else self
        split = None if test is None else Path(self.test_file).stem
        holds = described.holds or (split if split != "test" else None)
        return described.from_tables(
            (train, test), Provenance("directory", None, place="directory", holds=holds, split=split), str(place)
        )

    def _from_hub(self) -> Task:
        if self.hub is None:
            raise NotHere("it has no hub id")
        return self.task(*self.hub.find())

    def _from_package(self) -> Task:
        if self.package is None:
            raise NotHere("it is in no known Python package")
        return self.task(*self.package.find())


class Source(Protocol):
    """What the node `dataset` of the configuration describes: something that loads a task."""

    @property
    def name(self) -> str:
        """The name in results and directories."""
        ...

    def load(self) -> Task:
        """Load the task. UserError if it cannot be found, or for an invalid row."""
        ...


def check_label_words(words: Sequence[str]) -> None:
    """Raise ValueError unless there are two or more label words, none empty, all different."""
    if len(words) < 2:
        raise ValueError(f"label_words is {list(words)}; allowed: two or more words")
    for word in words:
        if not word.strip():
            raise ValueError(f"label_words has {word!r}; allowed: words with at least one visible character")
        if list(words).count(word) > 1:
            raise ValueError(f"label_words has {word!r} twice; every class needs its own word")


def warn_of_missing_blank(template: Template, words: Sequence[str]) -> None:
    """Log a warning if no blank separates the template from the label words: models are trained on text that has one."""
    before = template.before_label
    if before[-1:].isspace() or not before[-1:].isascii():
        return
    if odd := [word for word in words if word[:1].isascii() and word[:1].isalnum()]:
        log.warning(
            "dataset.label_words: %r follows %r without the blank that ordinary text has; write %s",
            *(odd[0], before.rsplit("\n")[-1], typed("dataset.label_words", [f" {word.lstrip()}" for word in words])),
        )


def _first_of_each(rows: list[Example], n: int | None) -> list[Example]:
    seen: Counter[int] = Counter()
    first = []
    for row in rows:
        seen[row.label] += 1
        if n is None or seen[row.label] <= n:
            first.append(row)
    return first
