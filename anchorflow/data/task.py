"""A task: labelled examples, their template and provenance, and the draws of queries and demonstrations."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from anchorflow.data.templates import Template
from anchorflow.errors import UserError


@dataclass(frozen=True)
class Example:
    """A labelled text. `row` is its index in the source's split; `demonstrations` are its fixed context, if it has one."""

    row: int
    text: str
    label: int
    text_pair: str | None = None
    demonstrations: tuple["Example", ...] | None = None


@dataclass(frozen=True)
class Provenance:
    """Where the examples came from, and what they are.

    `source` is `directory`, `hub`, `package`, `synthetic` or `given`; `place` its common name (StaICC); `holds` the source's
    description of its content (phrases); `split` the name of its test split (None: a share of the rows was taken). A Task
    computes the rest: each split's hash and size, an order-independent hash of the test split's texts and labels, and three
    counts: `overlap` (test examples with the texts of a train example), `duplicates` (examples with the texts and label of an
    earlier one of their split) and `conflicts` (texts with more than one label).
    """

    source: str
    revision: str | None
    sha256: dict[str, str] = field(default_factory=dict)
    place: str | None = None
    holds: str | None = None
    split: str | None = None
    examples: dict[str, int] = field(default_factory=dict)
    test_content: str = ""
    overlap: int = 0
    duplicates: int = 0
    conflicts: int = 0


Texts = tuple[str, str | None]


def content_hash(examples: Sequence[Example]) -> str:
    """A hash of rows and their indices; it does not depend on where they were read."""
    state = hashlib.sha256()
    for e in examples:
        own = [[d.text, d.text_pair, d.label] for d in e.demonstrations] if e.demonstrations else None
        # The row counts, too: a query's draws depend on it.
        state.update(
            json.dumps([e.row, e.text, e.text_pair, e.label, own], ensure_ascii=False).encode("utf-8", "replace")
        )
    return state.hexdigest()


def texts(example: Example) -> Texts:
    """The trimmed texts of an example. Examples with the same texts count as the same, whatever their labels."""
    return example.text.strip(), None if example.text_pair is None else example.text_pair.strip()


@dataclass(frozen=True, kw_only=True)
class Task:
    """Train and test examples, and the template, label words and separator that write them."""

    name: str
    template: Template
    label_words: tuple[str, ...]
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    separator: str = "\n"
    provenance: Provenance = field(default_factory=lambda: Provenance("given", None, {}))
    """Where the examples came from; its counts are always those of the examples in this task."""

    def __post_init__(self) -> None:
        hashes = {"train": content_hash(self.train), "test": content_hash(self.test)}
        train, test = ([(texts(example), example.label) for example in split] for split in (self.train, self.test))
        in_any_order = sorted(([*of, label] for of, label in test), key=str)
        trained = {of for of, _ in train}
        counted = replace(
            self.provenance,
            sha256=hashes,
            examples={"train": len(self.train), "test": len(self.test)},
            test_content=hashlib.sha256(json.dumps(in_any_order).encode()).hexdigest(),
            overlap=sum(of in trained for of, _ in test),
            duplicates=sum(len(split) - len(set(split)) for split in (train, test)),
            conflicts=len({*train, *test}) - len(trained | {of for of, _ in test}),
        )
        object.__setattr__(self, "provenance", counted)

    @property
    def shown(self) -> str:
        """The name with the content of the source: sst2, phrases (StaICC)."""
        given = self.provenance
        holds = f", {given.holds}" if given.holds else ""
        return f"{self.name}{holds}" + (f" ({given.place})" if given.place else "")

    @property
    def labels(self) -> tuple[str, ...]:
        """The label words without the blank before them."""
        return tuple(word.strip() for word in self.label_words)

    def description(self) -> dict[str, Any]:
        """The provenance and the template of the data, without its texts."""
        return {
            "name": self.name,
            "shown": self.shown,
            **vars(self.provenance),
            "template": self.template.source,
            "label_words": list(self.label_words),
            "separator": self.separator,
        }

    def draw_queries(self, n: int | None, seed: int) -> list[Example]:
        """`n` test examples shuffled by `seed`; None: the whole split in file order."""
        if n is None:
            return list(self.test)
        if n > len(self.test):
            raise UserError(
                f"experiment.n_queries is {n}; {self.name} has {len(self.test)} test examples (null uses all)."
            )
        return random.Random(f"{seed}/queries").sample(self.test, n)

    def draw_demonstrations(
        self,
        per_class: int,
        key: str,
        setting: str = "experiment.shots_per_class",
        apart_from: Collection[Texts] = (),
    ) -> list[Example]:
        """Draw `per_class` train examples of every class; the draw depends only on `key`.

        They come in rounds of one example per class, each round in shuffled order. Draws are therefore nested: a larger
        `per_class` begins with the examples of a smaller one. Examples with the texts of a query (`apart_from`) are skipped,
        which changes no other draw. UserError, naming `setting`, if a class has too few examples.
        """
        for pool, count, word in zip(self._pools, self._counts, self.labels, strict=True):
            left = len(pool) - sum(count[given] for given in set(apart_from))
            if left < per_class:
                which = f" {len(pool)} examples of {word!r}" + f", {left} of them no query" * (left < len(pool))
                raise UserError(f"{setting} is {per_class}; the train split of {self.name} has{which}.")
        generator = random.Random(key)
        pools = [list(pool) for pool in self._pools]
        steps = [0] * len(pools)

        def step(label: int) -> Example:
            """One step of a Fisher-Yates shuffle."""
            pool, i = pools[label], steps[label]
            other = generator.randrange(i, len(pool))
            pool[i], pool[other] = pool[other], pool[i]
            steps[label] += 1
            return pool[i]

        drawn: list[Example] = []
        for _ in range(per_class):
            shown = [step(label) for label in range(len(pools))]
            for label, example in enumerate(shown):
                while texts(example) in apart_from:
                    example = step(label)
                shown[label] = example
            generator.shuffle(shown)
            drawn += shown
        return drawn

    @cached_property
    def _pools(self) -> list[list[Example]]:
        """The train examples of each class."""
        return [[example for example in self.train if example.label == label] for label in range(len(self.labels))]

    @cached_property
    def _counts(self) -> list[Counter[Texts]]:
        """For each class, how often each text occurs in its train examples."""
        return [Counter(map(texts, pool)) for pool in self._pools]
