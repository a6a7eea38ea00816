"""Repetitions of label_relationships: draw examples from the train split and write them in each regime."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Literal

from anchorflow.data import Example, Task
from anchorflow.prompts import PromptBuilder, Repetition, Series
from anchorflow.prompts.labels import Regime

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Content-free texts: predictions for them without examples are the model's prior (calibration)."""
Draw = Literal["without_replacement", "with_replacement"]
Instruction = Literal["none", "classify", "instruct", "invert", "ignore"]


@dataclass(frozen=True, kw_only=True)
class Repetitions:
    """The repetitions, the task's label words and their frequencies in the train split, and prompts for calibration."""

    units: tuple[Repetition, ...]
    label_words: tuple[str, ...]
    frequencies: tuple[float, ...]
    content_free: Mapping[str, tuple[Series, ...]]
    """By regime."""


class Writers:
    """Draws the repetitions of a task and writes them in every regime."""

    def __init__(
        self,
        task: Task,
        builder: PromptBuilder,
        regimes: Sequence[Regime],
        *,
        instruction: Instruction,
        draw: Draw,
        seed: int,
    ) -> None:
        counts = Counter(example.label for example in task.train)
        self.frequencies = tuple(counts[label] / len(task.train) for label in range(len(task.label_words)))
        self._task = task
        self._draw = draw
        self._seed = seed
        self._regimes = regimes
        self._builders = {r.name: builder.with_words(r.words(task.label_words)) for r in regimes}
        self._longest = {name: max(writer.label_words, key=writer.length) for name, writer in self._builders.items()}
        self._instructions = {
            name: instruct(instruction, task.name, [word.strip() for word in writer.label_words])
            for name, writer in self._builders.items()
        }

    def repetition(self, number: int, n: int) -> Repetition:
        """A repetition with `n` examples, drawn from the train split without balancing classes."""
        key = f"{self._seed + number}/label_relationships"
        examples = [self._task.train[place] for place in self._places(Random(f"{key}/examples"), n)]
        truth = [example.label for example in examples]
        shown = {
            r.name: (self._longest[r.name],) * n
            if r.chosen
            else tuple(r.show(truth, self._task.label_words, self.frequencies, Random(f"{key}/{r.name}")))
            for r in self._regimes
        }
        series = {name: self._write(name, examples, words) for name, words in shown.items()}
        write = {r.name: partial(self._write_first, r.name, examples) for r in self._regimes if r.chosen}
        return Repetition(number, tuple(example.row for example in examples), tuple(truth), shown, series, write)

    def _places(self, generator: Random, n: int) -> list[int]:
        """The indices of the first `n` examples in the train split."""
        size = len(self._task.train)
        places: list[int] = []
        taken: set[int] = set()
        while len(places) < n:
            place = generator.randrange(size)
            if self._draw == "with_replacement" or place not in taken:
                places.append(place)
                taken.add(place)
        return places

    def content_free(self) -> Mapping[str, tuple[Series, ...]]:
        """Prompts for the prior: a content-free text after the instruction, without examples."""
        return {
            name: tuple(self._write(name, [Example(0, text, 0, text)], writer.label_words[:1]) for text in CONTENT_FREE)
            for name, writer in self._builders.items()
        }

    def _write_first(self, name: str, examples: Sequence[Example], words: Sequence[str]) -> Series:
        """The prompt of the first examples, with these words (with or without a leading blank) as their labels."""
        own = {word.strip(): word for word in self._builders[name].label_words}
        return self._write(name, examples[: len(words)], [own[word.strip()] for word in words])

    def _write(self, name: str, examples: Sequence[Example], words: Sequence[str]) -> Series:
        return self._builders[name].series(examples, words, self._instructions[name])


def instruct(instruction: Instruction, task: str, words: Sequence[str]) -> str:
    """The line before the examples; `words` are the label words in force."""
    quoted = [f"'{word}'" for word in words]
    means = [f"{shown} means {quoted[i - 1]}" for i, shown in enumerate(quoted)]
    return {
        "none": "",
        "classify": f"In the following, classify each example of {task} as {_listed(quoted, 'or')}.",
        "instruct": f"In the following, {_listed(means, 'and')}.",
        "invert": "In the following, flip the meaning of all answers.",
        "ignore": "In the following, ignore all prior knowledge.",
    }[instruction]


def _listed(parts: Sequence[str], word: str) -> str:
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"
