"""Sources other than files: the hub, and Python packages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import pickle
from pathlib import Path
from typing import Any, NoReturn

from anchorflow import hub
from anchorflow.data.task import Example, Provenance
from anchorflow.errors import UserError, first_line
from anchorflow.settings import configurable

log = logging.getLogger(__name__)

Found = tuple[list[Example], list[Example], Provenance, str]
"""Train, test, their provenance, and the name of the place in error messages."""


class NotHere(Exception):
    """This source does not have the dataset; the next one may."""


@configurable
class Hub:
    """A dataset on the hub. `names` are the source's label names in our order of classes; rows with other labels are left out.

    If `test` is null, a hash of the texts selects a fifth of the rows as the test split.
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

    def find(self) -> Found:
        """The examples. NotHere if neither the hub nor its cache has the dataset."""
        splits, revision = hub_splits(self.id, self.config, self.revision)
        for name in filter(None, (self.train, self.test)):
            if name not in splits:
                key = "train" if name == self.train else "test"
                raise UserError(
                    f"{self.id} on the hub has no split {name!r}; it has {', '.join(splits)}: write dataset.hub.{key}=..."
                )
        rows = [self._rows(splits[name]) for name in filter(None, (self.train, self.test))]
        train, test = rows if self.test else split_by_text(rows[0])
        return train, test, Provenance("hub", revision, place="hub", holds=self.holds, split=self.test), self.id

    def _rows(self, split: Any) -> list[Example]:
        feature = split.features[self.label]
        known = {name: label for label, name in enumerate(self.names)}
        examples = []
        for row, values in enumerate(split):
            value = values[self.label]
            name = feature.int2str(value) if hasattr(feature, "int2str") and value >= 0 else value
            if name in known:
                pair = str(values[self.text_pair]).strip() if self.text_pair else None
                examples.append(Example(row, str(values[self.text]).strip(), known[name], pair))
        return examples


@configurable
class Package:
    """A pickled list of ([texts], label) inside an installed Python package; `labels` are its numbers in our order.

    It has no splits: a hash of the texts selects a fifth of the rows as the test split.
    """

    name: str
    holds: str | None = None
    file: str
    labels: tuple[int, ...]

    def find(self) -> Found:
        """The examples. NotHere if the package is not installed or lacks the file."""
        found = importlib.util.find_spec(self.name)
        if found is None or not found.submodule_search_locations:
            raise NotHere(f"the package {self.name} is not installed (pip install {self.name})")
        path = Path(found.submodule_search_locations[0]) / self.file
        if not path.is_file():
            raise NotHere(f"{path} is not there")
        with path.open("rb") as file:
            table = _PlainUnpickler(file).load()
        known = {number: label for label, number in enumerate(self.labels)}
        rows = [
            Example(row, texts[0].strip(), known[number], texts[1].strip() if len(texts) > 1 else None)
            for row, (texts, number) in enumerate(table)
            if number in known and texts[0].strip()
        ]
        train, test = split_by_text(rows)
        version = importlib.metadata.version(self.name)
        return train, test, Provenance("package", version, place=self.name, holds=self.holds), str(path)


def hub_splits(id_: str, config: str | None, revision: str | None) -> tuple[Any, str | None]:
    """The splits of a dataset on the hub, and its commit. NotHere if neither the hub nor its cache has it."""
    online = hub.reachable()
    from datasets import load_dataset

    try:
        splits = load_dataset(id_, config, revision=revision)
    except Exception as error:  # the library raises dozens of types; each means that this source does not have it
        if online:
            log.debug("the hub failed", exc_info=True)
        cause = first_line(error) if online else "the hub cannot be reached and its cache has no copy"
        raise NotHere(f"{id_}: {cause}") from error
    return splits, _commit(id_, revision) if online else revision


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, tuples, strings and numbers; refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise UserError(f"a packaged dataset refers to {module}.{name}; allowed: plain lists.")


def split_by_text(rows: list[Example]) -> tuple[list[Example], list[Example]]:
    """Train and test of a source without splits: a hash of the text assigns a fifth to test; equal texts stay together."""
    train: list[Example] = []
    test: list[Example] = []
    for row in rows:
        byte = hashlib.sha256(row.text.lower().encode()).digest()[0]
        (test if byte < 51 else train).append(row)
    return train, test


def _commit(id_: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(id_, revision=revision, timeout=hub.TIMEOUT_S).sha
    except Exception:  # the hash of the rows identifies them; the commit is only informative
        log.warning("the hub did not name the revision of %s", id_)
        return revision
