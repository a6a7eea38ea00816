"""What a prompt knows of its parts: token positions of demonstrations, label words and targets."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from typing import Any

from anchorflow.results import Record

Prediction = tuple[str, int, list[float], str]
"""A variant's name, the true class, the classes' probabilities and the prompt's text."""


@dataclass(frozen=True)
class Demonstration:
    """Where one demonstration lies in its prompt: token positions, from 0.

    `anchor` is the first token of the label word; `label_word` all its tokens; `formatting` every token
    that holds no character of the text or the label, the separator behind it included. `merged` are the tokens of the text
    that also hold a sign of the template or a separator (".\\n" is one token for some tokenizers), other than a blank.
    """

    label: int
    start: int
    stop: int
    anchor: int
    label_word: tuple[int, ...]
    formatting: tuple[int, ...]
    merged: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """Token ids up to the target position, from which the label word is predicted.

    `label_tokens` holds the first token of each class's label word. `query` is the row of the query in
    its split, `label` its true class. `lead` tokens of the template stand between the demonstrations and the query's text.
    """

    query: int
    label: int
    ids: tuple[int, ...]
    demonstrations: tuple[Demonstration, ...]
    label_tokens: tuple[int, ...]
    text: str
    lead: int = 0

    @property
    def number(self) -> int:
        """What tells it from the others: the row of its query."""
        return self.query

    @property
    def length(self) -> int:
        """How many tokens it has."""
        return len(self.ids)

    @property
    def head(self) -> dict[str, Any]:
        """What its record begins with."""
        return {"query": self.query, "label": self.label}

    def predictions(self, record: Record, decode: Callable[[Sequence[int]], str]) -> Iterator[Prediction]:
        """Those of every variant in its record."""
        for name, variant in record.get("variants", {}).items():  # an experiment need not have any
            yield name, self.label, variant["probs"], self.text

    @property
    def target(self) -> int:
        """The last position, called q in the papers."""
        return len(self.ids) - 1

    @property
    def context(self) -> tuple[int, ...]:
        """The tokens of the demonstrations, the separator behind the last one included."""
        return self.ids[: self.demonstrations[-1].stop] if self.demonstrations else ()

    @property
    def shared(self) -> tuple[int, ...]:
        """All that comes before the query's own text: what queries with the same demonstrations have in common."""
        return self.ids[: len(self.context) + self.lead]

    @property
    def anchors(self) -> tuple[int, ...]:
        """The positions p_k of the demonstrations' label words, in order."""
        return tuple(demonstration.anchor for demonstration in self.demonstrations)


@dataclass(frozen=True)
class Series:
    """Examples one after another, each predicted from those before it: token ids up to the last target position.

    `targets` are the positions from which each example's label word is predicted, `label_tokens` the first token of each
    class's label word. `ids` take four bytes each: a run may hold millions.
    """

    ids: array[int]
    targets: tuple[int, ...]
    label_tokens: tuple[int, ...]

    def first(self, n: int) -> Series:
        """The first `n` examples alone."""
        return replace(self, ids=self.ids[: self.targets[n - 1] + 1], targets=self.targets[:n])


@dataclass(frozen=True)
class Repetition:
    """The same examples with their labels as each regime shows them.

    `examples` are rows of the train split and `labels` their true classes; `shown` are the words that a regime writes,
    `series` the prompt that this makes, both by the regime's name. Where the model chooses the words, the longest stand
    in their place.
    """

    repetition: int
    examples: tuple[int, ...]
    labels: tuple[int, ...]
    shown: Mapping[str, tuple[str, ...]]
    series: Mapping[str, Series]
    write: Mapping[str, Callable[[Sequence[str]], Series]] = field(default_factory=dict, compare=False)
    """By the name of a regime whose words the model chooses: the prompt of the first examples, as many as the given words."""

    @property
    def number(self) -> int:
        """What tells it from the others."""
        return self.repetition

    @property
    def length(self) -> int:
        """How many tokens its longest prompt has."""
        return max(len(series.ids) for series in self.series.values())

    @property
    def head(self) -> dict[str, Any]:
        """What its record begins with."""
        return {"repetition": self.repetition, "examples": list(self.examples), "labels": list(self.labels)}

    def predictions(self, record: Record, decode: Callable[[Sequence[int]], str]) -> Iterator[Prediction]:
        """Those of the last example under every regime in its record."""
        for name, regime in record["regimes"].items():
            probs = [exp(value) for value in regime["log_probabilities"][-1]]
            series = self.write[name](regime["shown"]) if name in self.write else self.series[name]
            yield name, self.labels[-1], probs, decode(series.ids)

    def first(self, n: int) -> Repetition:
        """The first `n` examples alone."""
        return Repetition(
            self.repetition,
            self.examples[:n],
            self.labels[:n],
            {name: words[:n] for name, words in self.shown.items()},
            {name: series.first(n) for name, series in self.series.items()},
            self.write,
        )
