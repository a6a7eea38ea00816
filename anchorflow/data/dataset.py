"""Load a task: its examples, how they are written in a prompt, and where they came from.

A dataset comes from a directory of JSON lines, the hub, or a Python package. Copies of one dataset differ, so that every
source says what it holds, and a sweep freezes what `auto` chose. Labels are matched by name, so that a source's own
numbering does not matter.
"""

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

from anchorflow import hub
from anchorflow.data.rows import read_rows
from anchorflow.data.task import Example, Provenance, Task, texts
from anchorflow.data.templates import Template
from anchorflow.errors import UserError
from anchorflow.settings import build, configurable, setting

log = logging.getLogger(__name__)

SOURCES = ("directory", "hub", "package")
"""What `auto` tries, in this order."""


@configurable
class Hub:
    """A dataset on the hub. `names` are the source's label names in our order of classes; rows of others are left out.

    Where `test` is null, a fifth of the rows (chosen by a hash of their text) is the test split.
    """

    id: str
    holds: str | None = None
    config: str | None = None
    revision: str | None = None
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    names: tuple[str | int, ...]
    train: str = "train"
    test: str | None = "test"


@configurable
class Package:
    """A pickled list of ([texts], label) inside an installed Python package; `labels` are its numbers in our order.

    It has no splits: a fifth of the rows (chosen by a hash of their text) is the test split.
    """

    name: str
    holds: str | None = None
    file: str
    labels: tuple[int, ...]


@configurable
class Dataset:
    """A dataset of the configuration: how it is written, and where it can be had."""

    name: str
    """What results, directories and instructions call it."""
    template: str | None = None
    """How an example is written, with {text}, {text_pair} and, last, {label}."""
    label_words: tuple[str, ...] | None = None
    """The word of each class, with the blank in front of it."""
    label_names: tuple[str, ...] | None = setting(default=None, kind="source")
    """What a row's `label` may say instead of a number."""
    separator: str | None = None
    """What stands between examples; null is one newline."""
    rows_per_class: int | None = setting(default=None, kind="source")
    """Of the train split, the first so many rows of each class alone; null takes all."""
    source: Literal["auto", "directory", "hub", "package"] = setting(default="auto", kind="source")
    """Where to look; auto takes the first of directory, hub and package that has it. A sweep freezes that choice."""
    holds: str | None = setting(default=None, kind="shown")
    """What a directory's files hold, in a few words that results show ("sentences"); hub and package have their own."""
    path: str | None = setting(default=None, kind="source")
    """A directory with `train_file` and `test_file`."""
    root: str | None = setting(default=None, kind="source")
    """A directory of datasets: without `path`, `root`/`name` is looked for."""
    train_file: str = setting(default="train.jsonl", kind="source")
    """The train split in the directory."""
    test_file: str = setting(default="test.jsonl", kind="source")
    """The test split in the directory."""
    hub: Hub | None = setting(default=None, kind="source")
    """Where it lies on the hub."""
    package: Package | None = setting(default=None, kind="source")
    """The Python package that carries it."""

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
        if self.name == "local" and self.path is None:
            raise ValueError("path is missing; dataset=local needs dataset.path=DIR with train.jsonl and test.jsonl")
        if self.rows_per_class is not None and self.rows_per_class < 1:
            raise ValueError(f"rows_per_class is {self.rows_per_class}; allowed: 1 or more, or null for all")
        for kind in ("hub", "package"):
            if self.source == kind and getattr(self, kind) is None:
                raise ValueError(f"source is {kind!r}, but {self.name} is not known there; allowed: auto, directory")

    def load(self) -> Task:
        """The task, from the first source that has it. UserError where none has, or for a bad row."""
        sources = SOURCES if self.source == "auto" else (self.source,)
        reasons = []
        for source in sources:
            try:
                task: Task = getattr(self, f"_from_{source}")()
            except _NotHere as reason:
                reasons.append(f"{source}: {reason}")
                if self.path is not None:
                    break
                continue
            revision = task.provenance.revision
            log.info(
                "data: %s, source %s%s%s, %d train and %d test examples",
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
        if self.template is None or self.label_words is None:
            missing = "template" if self.template is None else "label_words"
            raise UserError(f"dataset.{missing} is missing; give it on the command line or in {where}/dataset.yaml.")
        train = _first_of_each(train, self.rows_per_class)
        present = Counter(example.label for example in train)
        for label, word in enumerate(self.label_words):
            if not present[label]:
                raise UserError(f"{where}: no train example of class {label} ({word.strip()!r}).")
        warn_of_missing_blank(Template(self.template), self.label_words)
        if not test:
            raise UserError(f"{where}: the test split holds no example.")
        if {texts(example) for example in train} == {texts(example) for example in test}:
            raise UserError(
                f"{where}: train and test hold the same {len(test)} examples, so that queries would be their own "
                "demonstrations. Put other examples into one of them (dataset.train_file, dataset.test_file)."
            )
        if Template(self.template).pair and any(example.text_pair is None for example in (*train, *test)):
            raise UserError(f"dataset.template asks for {{text_pair}}, but the rows of {where} have one text only.")
        return Task(
            name=self.name,
            template=Template(self.template),
            separator="\n" if self.separator is None else self.separator,
            label_words=self.label_words,
            train=tuple(train),
            test=tuple(test),
            provenance=provenance,
        )

    def _from_directory(self) -> Task:
        if self.path is None and self.root is None:
            raise _NotHere("neither ANCHORFLOW_DATA nor dataset.path is set")
        given = None if self.path is None else Path(os.path.expanduser(self.path))  # noqa: PTH111 - pathlib's fails for ~nobody
        folder = given or Path(str(self.root)) / self.name
        if missing := [name for name in (self.train_file, self.test_file) if not (folder / name).is_file()]:
            if len(missing) == 1 and self.train_file != self.test_file:  # no reason to take another source's rows
                raise UserError(_other_split(folder, missing[0], self))
            raise _NotHere(f"{folder / missing[0]} is not there")
        described = _described(self, folder)
        label_words = described.label_words or ()
        names = described.label_names or tuple(word.strip() for word in label_words)
        pair = described.template is not None and Template(described.template).pair
        train, test = (
            list(read_rows(folder / name, len(label_words) or None, names, pair))
            for name in (self.train_file, self.test_file)
        )
        split = Path(self.test_file).stem
        holds = described.holds or (split if split != "test" else None)
        return described.task(
            train, test, Provenance("directory", None, place="directory", holds=holds, split=split), str(folder)
        )

    def _from_hub(self) -> Task:
        if self.hub is None:
            raise _NotHere("no hub id is known for it")
        online = hub.reachable()
        from datasets import load_dataset

        place = self.hub
        try:
            splits = load_dataset(place.id, place.config, revision=place.revision)
        except Exception as error:  # the library raises dozens of kinds; every one of them means "not from here"
            if online:
                log.debug("the hub failed", exc_info=True)
            cause = str(error).splitlines()[0] if online else "the hub is out of reach and its cache has no copy"
            raise _NotHere(f"{place.id}: {cause}") from error
        for name in filter(None, (place.train, place.test)):
            if name not in splits:
                key = "train" if name == place.train else "test"
                raise UserError(
                    f"{place.id} on the hub has no split {name!r}; it has {', '.join(splits)}: write dataset.hub.{key}=..."
                )
        rows = [self._hub_rows(splits[name]) for name in filter(None, (place.train, place.test))]
        train, test = rows if place.test else _split_by_text(rows[0])
        revision = _commit(place) if online else place.revision
        return self.task(
            train, test, Provenance("hub", revision, place="hub", holds=place.holds, split=place.test), place.id
        )

    def _hub_rows(self, split: Any) -> list[Example]:
        assert self.hub is not None
        place = self.hub
        feature = split.features[place.label]
        known = {name: label for label, name in enumerate(place.names)}
        examples = []
        for row, values in enumerate(split):
            value = values[place.label]
            name = feature.int2str(value) if hasattr(feature, "int2str") and value >= 0 else value
            if name in known:
                pair = str(values[place.text_pair]).strip() if place.text_pair else None
                examples.append(Example(row, str(values[place.text]).strip(), known[name], pair))
        return examples

    def _from_package(self) -> Task:
        if self.package is None:
            raise _NotHere("no Python package is known to carry it")
        found = importlib.util.find_spec(self.package.name)
        if found is None or not found.submodule_search_locations:
            raise _NotHere(f"the package {self.package.name} is not installed (pip install {self.package.name})")
        path = Path(found.submodule_search_locations[0]) / self.package.file
        if not path.is_file():
            raise _NotHere(f"{path} is not there")
        with path.open("rb") as file:
            table = _PlainUnpickler(file).load()
        known = {number: label for label, number in enumerate(self.package.labels)}
        rows = [
            Example(row, texts[0].strip(), known[number], texts[1].strip() if len(texts) > 1 else None)
            for row, (texts, number) in enumerate(table)
            if number in known and texts[0].strip()
        ]
        train, test = _split_by_text(rows)
        version = importlib.metadata.version(self.package.name)
        given = Provenance("package", version, place=self.package.name, holds=self.package.holds)
        return self.task(train, test, given, str(path))


class Source(Protocol):
    """Where a task comes from: a node of the configuration."""

    @property
    def name(self) -> str:
        """What results and directories call it."""
        ...

    def load(self) -> Task:
        """The task. UserError where it cannot be had, or for a bad row."""
        ...


class _NotHere(Exception):
    """This source does not have the dataset; the next one may."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, tuples, strings and numbers, and refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise UserError(f"a packaged dataset asks for {module}.{name}; only plain lists are read.")


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
            *(odd[0], before.rsplit("\n")[-1], "dataset.label_words=" + str([f" {word.lstrip()}" for word in words])),
        )


def _first_of_each(rows: list[Example], n: int | None) -> list[Example]:
    seen: Counter[int] = Counter()
    first = []
    for row in rows:
        seen[row.label] += 1
        if n is None or seen[row.label] <= n:
            first.append(row)
    return first


def _described(dataset: Dataset, folder: Path) -> Dataset:
    """The dataset with what `dataset.yaml` in its folder says; what was configured wins."""
    path = folder / "dataset.yaml"
    if not path.is_file():
        return dataset
    import yaml

    allowed = ("template", "label_words", "label_names", "separator", "holds")
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for key in said:
            if key not in allowed:
                raise ValueError(f"{key!r} is not a key of dataset.yaml; allowed: {', '.join(allowed)}")
        given = {key: value for key, value in said.items() if getattr(dataset, key) is None}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}.") from error
    described: Dataset = build(vars(dataset) | given, str(path), Dataset)
    return described


def _other_split(folder: Path, missing: str, dataset: Dataset) -> str:
    """What to write where one of the two files of a directory is not there."""
    key = "train_file" if missing == dataset.train_file else "test_file"
    there = sorted(path.name for path in folder.glob("*.jsonl"))
    others = [kind for kind in ("hub", "package") if getattr(dataset, kind) is not None]
    instead = f", or another source (dataset.source={'|'.join(others)})" if others and dataset.path is None else ""
    return f"{folder} has no {missing}; it has {', '.join(there)}. Write dataset.{key}=FILE{instead}."


def _split_by_text(rows: list[Example]) -> tuple[list[Example], list[Example]]:
    """Train and test for a source without splits: a hash of the text sends every fifth to test, equal texts together."""
    train: list[Example] = []
    test: list[Example] = []
    for row in rows:
        byte = hashlib.sha256(row.text.lower().encode()).digest()[0]
        (test if byte < 51 else train).append(row)
    return train, test


def _commit(place: Hub) -> str | None:
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(place.id, revision=place.revision, timeout=hub.TIMEOUT_S).sha
    except Exception:  # the rows are here and have their hash; the commit's name is a courtesy
        log.warning("the hub did not say which revision of %s this is", place.id)
        return place.revision
