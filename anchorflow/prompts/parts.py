"""Prompts and the token positions of their parts: demonstrations, label words and targets."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from typing import Any

from anchorflow.results import Record

Prediction = tuple[str, int, list[float], str]
"""The name of a variant, the true class, the class probabilities and the text of the prompt."""


@dataclass(frozen=True)
class Demonstration:
    """The token positions of one demonstration in its prompt, from 0.

    `anchor` is the first token of the label word, `label_word` all its tokens. `formatting` are all tokens without a
    character of the text or label, including the separator after it. `merged` are tokens of the text that also contain a
    non-blank character of the template or separator (".\\n" is one token in some tokenizers).
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

    `label_tokens` are the first tokens of the label words, by class. `query` is the row of the query in its
    split, `label` its true class. `lead` is the number of template tokens between the demonstrations and the query's text.
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
        """Its number among the units of a run: the row of its query."""
        return self.query

    @property
    def length(self) -> int:
        """Its number of tokens."""
        return len(self.ids)

    @property
    def head(self) -> dict[str, Any]:
        """The first fields of its record."""
        return {"query": self.query, "label": self.label}

    def predictions(self, record: Record, decode: Callable[[Sequence[int]], str]) -> Iterator[Prediction]:
        """The predictions of every variant in its record."""
        for name, variant in record.get("variants", {}).items():  # an experiment need not have any
            yield name, self.label, variant["probs"], self.text

    @property
    def target(self) -> int:
        """The last position, from which the label is predicted; q in the paper."""
        return len(self.ids) - 1

    @property
    def context(self) -> tuple[int, ...]:
        """The tokens of the demonstrations, including the separator after the last one."""
        return self.ids[: self.demonstrations[-1].stop] if self.demonstrations else ()

    @property
    def shared(self) -> tuple[int, ...]:
        """All tokens before the query's text; queries with the same demonstrations share them."""
        return self.ids[: len(self.context) + self.lead]

    @property
    def anchors(self) -> tuple[int, ...]:
        """The positions p_k of the demonstrations' label words, in order."""
        return tuple(demonstration.anchor for demonstration in self.demonstrations)


@dataclass(frozen=True)
class Series:
    """A sequence of examples, each predicted from those before it: token ids up to the last target position.

    `targets` are the positions from which the label words are predicted, `label_tokens` the first tokens of the label
    words, by class. `ids` are stored in four bytes each: a run may hold millions.
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

    `examples` are rows of the train split and `labels` their true classes. By the regime's name, `shown` are the words it
    shows and `series` the resulting prompt. If the model predicts the words, the longest words are placeholders.
    """

    repetition: int
    examples: tuple[int, ...]
    labels: tuple[int, ...]
    shown: Mapping[str, tuple[str, ...]]
    series: Mapping[str, Series]
    write: Mapping[str, Callable[[Sequence[str]], Series]] = field(default_factory=dict, compare=False)
    """By the name of a regime with predicted labels: makes the prompt of the first examples, one for each given word."""

    @property
    def number(self) -> int:
        """Its number among the repetitions of a run."""
        return self.repetition

    @property
    def length(self) -> int:
        """The number of tokens of its longest prompt."""
        return max(len(series.ids) for series in self.series.values())

    @property
    def head(self) -> dict[str, Any]:
        """What its record begins with."""
        return {"repetition": self.repetition, "examples": list(self.examples), "labels": list(self.labels)}

    def predictions(self, record: Record, decode: Callable[[Sequence[int]], str]) -> Iterator[Prediction]:
        """The predictions of the last example under every regime in its record."""
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
