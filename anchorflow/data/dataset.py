"""Load a task: its examples, how they are written in a prompt, and where they came from.

A dataset comes from files, the hub, or a Python package. Copies of one dataset differ, so that every source says what it
holds, and a sweep freezes what `auto` chose. Labels are matched by name, so that a source's own numbering does not matter.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from anchorflow.data import columns, directory
from anchorflow.data.checks import refuse_problems
from anchorflow.data.rows import Reading, names_in
from anchorflow.data.sources import Hub, NotHere, Package, split_by_text
from anchorflow.data.tables import suffix
from anchorflow.data.task import Example, Provenance, Task
from anchorflow.data.templates import Template
from anchorflow.errors import UserError, typed
from anchorflow.paths import expanded
from anchorflow.settings import build, configurable, setting

log = logging.getLogger(__name__)

SOURCES = ("directory", "hub", "package")
"""What `auto` tries, in this order."""
Column = Literal["text", "text_pair", "label"]
Problem = Literal["missing", "nul", "duplicates", "conflicts", "overlap"]
DESCRIBED = ("template", "label_words", "label_names", "separator", "holds", "columns")
"""What a `dataset.yaml` may say."""


@configurable
class Dataset:
    """A dataset of the configuration: how it is written, and where it can be had."""

    name: str = ""
    """What results, directories and instructions call it; left out, the last part of `path`."""
    template: str | None = None
    """How an example is written, with {text}, {text_pair} and, last, {label}."""
    label_words: tuple[str, ...] | None = None
    """The word of each class, with the blank in front of it."""
    label_names: tuple[str, ...] | None = setting(default=None, kind="source")
    """What a row's `label` may say instead of a number."""
    separator: str | None = None
    """The text between examples; null is one newline."""
    rows_per_class: int | None = setting(default=None, kind="source")
    """Use only the first rows of each class in the train split, this many; null uses all."""
    source: Literal["auto", "directory", "hub", "package"] = setting(default="auto", kind="source")
    """Where to look; auto takes the first of directory, hub and package that has it. A sweep freezes that choice."""
    holds: str | None = setting(default=None, kind="shown")
    """What a directory's files hold, in a few words that results show ("sentences"); hub and package have their own."""
    path: str | None = setting(default=None, kind="source")
    """A directory with `train_file` and `test_file`, or one file, which is split by a hash of its texts: JSON lines, JSON,
    CSV, TSV (these may be gzipped), Parquet, or what `datasets.save_to_disk` wrote."""
    root: str | None = setting(default=None, kind="source")
    """A directory of datasets: without `path`, `root`/`name` is looked for."""
    train_file: str = setting(default="train.jsonl", kind="source")
    """The train split in the directory; a file of another kind (train.csv) does, too."""
    test_file: str = setting(default="test.jsonl", kind="source")
    """The test split in the directory."""
    hub: Hub | None = setting(default=None, kind="source")
    """Where it lies on the hub."""
    package: Package | None = setting(default=None, kind="source")
    """The Python package that carries it."""
    columns: dict[Column, str] | None = setting(default=None, kind="source")
    """Which column is what, where they have other names: {text: sentence, label: polarity}."""
    refuse: tuple[Problem, ...] = setting(default=("missing", "nul"), kind="source")
    """What is refused: rows with a missing (or empty) text, texts with a NUL, duplicates (texts and label of an earlier row),
    conflicts (a text with two labels), overlap (test texts in train). The rest is counted, and rows without text left out."""

    def __post_init__(self) -> None:
        for key in ("template", "separator"):  # a command line has no line breaks: what is typed as \n stands for one
            if (given := getattr(self, key)) is not None:
                object.__setattr__(self, key, given.replace("\\n", "\n").replace("\\t", "\t"))
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
                raise ValueError(f"source is {kind!r}, but {self.name} is not known there; allowed: auto, directory")

    def _named(self) -> str:
        if self.path is None:
            raise ValueError(
                "path is missing; dataset=local needs dataset.path=DIR, or a file (.jsonl, .csv, .parquet)"
            )
        name = expanded(self.path).resolve().name
        return name.removesuffix(suffix(Path(name))) or name

    def load(self) -> Task:
        """The task, from the first source that has it. UserError where none has, or for a bad row."""
        sources = SOURCES if self.source == "auto" else (self.source,)
        reasons = []
        for source in sources:
            try:
                task: Task = getattr(self, f"_from_{source}")()
            except NotHere as reason:
                reasons.append(f"{source}: {reason}")
                if self.path is not None:
                    break
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
        """The settings that make sure that `task` comes from the source it came from now, or from none."""
        source = task.provenance.source
        return {"source": source} if self.source == "auto" and source in SOURCES else {}

    def without_split(self, task: Task) -> str | None:
        """What to say where `task` comes from a source without the test split that others have; None where it does not."""
        official = None if self.hub is None else self.hub.test
        if official is None or task.provenance.split is not None:
            return None
        files = f"{self.name}/{self.train_file} and {self.name}/{self.test_file}"
        return (
            f"{task.shown} has no {official} split of its own. Set ANCHORFLOW_DATA to a directory with {files}, or "
            f"take a fifth of its rows all the same with dataset.source={task.provenance.source}."
        )

    def task(self, train: list[Example], test: list[Example], provenance: Provenance, where: str) -> Task:
        """The checked task of these examples; `where` is what a complaint calls their place."""
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
            raise UserError(f"{where}: the test split holds no example.")
        if Template(self.template).pair and any(example.text_pair is None for example in (*train, *test)):
            raise UserError(f"dataset.template asks for {{text_pair}}, but the rows of {where} have one text only.")
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
        """The task of the rows of these splits. Without a test split, the train split's rows are split by a hash."""
        train, test = splits
        if self.template is None:
            raise UserError(self._missing("template", "Review: {text}\nSentiment:{label}", where))
        named = self.label_names or tuple(word.strip() for word in self.label_words or ())
        found = columns.find(train, self.columns or {}, Template(self.template).pair, named)  # type: ignore[arg-type]
        names = named or names_in(train, found["label"])
        if not names:
            raise UserError(self._missing("label_words", [" negative", " positive"], where))
        words = self.label_words or tuple(f" {name}" for name in names)
        if self.label_words is None:
            log.info("label words: %s, from the labels of %s", ", ".join(map(repr, words)), train.place)
        reading = Reading(found, names, self.refuse)
        examples = reading.examples(train)
        if test is None:
            examples, queries = split_by_text(examples)
            log.info("split: %s has no test split; a fifth of its rows, by a hash of their texts, is one", train.place)
        else:
            queries = reading.examples(test)
        return replace(self, label_words=words).task(examples, queries, provenance, where)

    def _missing(self, key: str, example: object, where: str) -> str:
        return (
            f"dataset.{key} is missing. Write, for one, {typed(f'dataset.{key}', example)}, or put {key}: into a "
            f"dataset.yaml beside {where}."
        )

    def _from_directory(self) -> Task:
        if self.path is not None:
            place = expanded(self.path)
        elif self.root:
            place = expanded(self.root) / self.name
            if not place.parent.is_dir():
                raise UserError(
                    f"ANCHORFLOW_DATA (dataset.root) is {self.root!r}, which is no directory; looked for {place}. Correct it, "
                    "or unset it to take another source."
                )
        else:
            raise NotHere("neither ANCHORFLOW_DATA nor dataset.path is set")
        if not place.exists():
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
            raise NotHere("no hub id is known for it")
        return self.task(*self.hub.find())

    def _from_package(self) -> Task:
        if self.package is None:
            raise NotHere("no Python package is known to carry it")
        return self.task(*self.package.find())


class Source(Protocol):
    """Where a task comes from: a node of the configuration."""

    @property
    def name(self) -> str:
        """What results and directories call it."""
        ...

    def load(self) -> Task:
        """The task. UserError where it cannot be had, or for a bad row."""
        ...


def check_label_words(words: Sequence[str]) -> None:
    """ValueError unless there are two or more label words, none empty, no two alike."""
    if len(words) < 2:
        raise ValueError(f"label_words is {list(words)}; allowed: two or more words")
    for word in words:
        if not word.strip():
            raise ValueError(f"label_words holds {word!r}; allowed: words with at least one letter or sign")
        if list(words).count(word) > 1:
            raise ValueError(f"label_words holds {word!r} twice; every class needs a word of its own")


def warn_of_missing_blank(template: Template, words: Sequence[str]) -> None:
    """A line in the log where label words follow the template's last sign at once: models have seen a blank there."""
    before = template.before_label
    if before[-1:].isspace() or not before[-1:].isascii():
        return
    if odd := [word for word in words if word[:1].isascii() and word[:1].isalnum()]:
        log.warning(
            "dataset.label_words: %r follows %r without a blank, as no text has it; write %s",
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
