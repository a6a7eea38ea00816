"""What labels in the context do, over the number of examples (In-Context Learning Learns Label Relationships)."""

from __future__ import annotations

import logging
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator

from anchorflow.data import Example, Task
from anchorflow.errors import UserError
from anchorflow.experiments.base import REPETITION, UnitKind
from anchorflow.experiments.calibration import cross_fitted, named
from anchorflow.experiments.contrasts import SECOND_HALF, Comparison, contrasts, outcomes, second_half
from anchorflow.prompts import PromptBuilder, Repetition, Series
from anchorflow.prompts.labels import TURNING, Regime, parse
from anchorflow.results import Curve, Record, Result, statistics
from anchorflow.settings import configurable, setting

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel, Shape

log = logging.getLogger(__name__)

CONTENT_FREE = ("N/A", "[MASK]", "")
"""Texts that say nothing: what is predicted of them without any example is the model's prior (calibration)."""
MEASURES = ("accuracy", "log_likelihood", "entropy")
FLIPPED = ("flipped_accuracy", "flipped_log_likelihood")
"""The same against the flipped labels, for regimes that show them."""
SHARES = ("accuracy", "flipped_accuracy")


@dataclass(frozen=True, kw_only=True)
class Repetitions:
    """The repetitions, the classes' frequencies in the train split, and prompts without content to calibrate with."""

    units: tuple[Repetition, ...]
    frequencies: tuple[float, ...]
    content_free: Mapping[str, tuple[Series, ...]]
    """By regime."""


@configurable
class LabelRelationships:
    """Curves of accuracy, log-likelihood and entropy over the number of examples, under each label regime.

    A repetition draws `n_demonstrations` train examples, written one after another; each is predicted from those before
    it, so that curves go from 0 to n_demonstrations - 1. All regimes show the same examples in the same order.
    Without `n_demonstrations` there are as many as fit the context in all repetitions, but `at_most` so many.
    """

    name: ClassVar[str] = "label_relationships"
    unit: ClassVar[UnitKind] = REPETITION
    version: ClassVar[str] = "2"

    regimes: tuple[str | dict[str, Any], ...] = ("default", "random", "flipped")
    """What the labels of the examples are: default, random, flipped, {noise: 0.25}, {replaced: [A, B]},
    {flip_after: 20}, {default_after: 20}, {alternating: 1}, {constant: A}."""
    n_demonstrations: int | None = None
    """Examples in a repetition; null takes as many as fit the context in every repetition."""
    at_most: int | None = None
    """With n_demonstrations null: the largest number of examples."""
    repetitions: int = 100
    """Draws of the examples."""
    instruction: Literal["none", "classify", "invert", "ignore"] = "none"
    """A line in front of the examples."""
    calibrate: Annotated[Literal["none", "content_free", "per_position"], BeforeValidator(named)] = "none"
    """Subtract a log-prior from the label words' log-probabilities: `content_free` that of prompts without content,
    `per_position` the mean over the other repetitions at the same number of examples."""
    shards: int = setting(default=1, kind="run")
    """Tasks of a sweep's array that share the work."""

    def __post_init__(self) -> None:
        for key in ("repetitions", "shards"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}; allowed: 1 or more")
        for key in ("n_demonstrations", "at_most"):
            if (given := getattr(self, key)) is not None and given < 1:
                raise ValueError(f"{key} is {given}; allowed: 1 or more, or null")
        if self.calibrate == "per_position" and self.repetitions < 2:
            raise ValueError(f"repetitions is {self.repetitions} with calibrate=per_position; allowed: 2 or more")
        regimes = parse(self.regimes)
        if self.n_demonstrations is not None:
            _check_turns(regimes, self.n_demonstrations)

    @cached_property
    def parsed(self) -> tuple[Regime, ...]:
        """The regimes as values."""
        return parse(self.regimes)

    def unused(self) -> tuple[str, ...]:
        """`at_most` is only asked for without `n_demonstrations`."""
        return () if self.n_demonstrations is None else ("at_most",)

    def check(self, task: Task, shape: Shape) -> None:
        """UserError if there are fewer examples than asked for, or replaced words for another number of classes."""
        if self.n_demonstrations is not None and self.n_demonstrations > len(task.train):
            raise UserError(
                f"experiment.n_demonstrations is {self.n_demonstrations}; the train split of {task.name} has "
                f"{len(task.train)} examples."
            )
        for regime in self.parsed:
            try:
                regime.words(task.label_words)
            except ValueError as error:
                raise UserError(f"experiment.regimes: {error} ({', '.join(task.labels)}).") from error

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> Repetitions:
        """A repetition's examples and labels depend on seed + repetition alone; fewer examples are the first of more."""
        writers = _Writers(task, builder, self.parsed, self.instruction, seed)
        if self.n_demonstrations is None:
            most = min(len(task.train), self.at_most or len(task.train))
            repetitions = self._as_many_as_fit(writers, most, builder.limit.tokens)
        else:
            repetitions = [writers.repetition(number, self.n_demonstrations) for number in range(self.repetitions)]
        return Repetitions(
            units=tuple(repetitions),
            frequencies=writers.frequencies,
            content_free=writers.content_free() if self.calibrate == "content_free" else {},
        )

    def _as_many_as_fit(self, writers: _Writers, most: int, limit: int | None) -> list[Repetition]:
        """Repetitions of the largest number of examples whose prompts are within the limit in all of them."""
        if limit is None and self.at_most is None:
            raise UserError(
                "experiment.n_demonstrations is null, but this model's context has no limit; give a number."
            )
        limit = sys.maxsize if limit is None else limit
        n = 1
        while n < most and writers.repetition(0, n).length <= limit:
            n = min(2 * n, most)
        repetitions = []
        for number in range(self.repetitions):
            repetitions.append(writers.repetition(number, n))
            n = min(bisect_left(series.targets, limit) for series in repetitions[-1].series.values())
            if n < 1:
                raise UserError(f"no example fits the context of {limit} tokens: one of repetition {number} is longer.")
        log.info("n_demonstrations: %d fit the context of %d tokens in every repetition", n, limit)
        try:
            _check_turns(self.parsed, n)
        except ValueError as error:
            raise UserError(f"experiment.regimes: {error}, here as many as fit.") from error
        return [repetition.first(n) for repetition in repetitions]

    def plan(self, units: Sequence[Repetition], batch_tokens: int) -> list[list[Repetition]]:
        """Repetitions of similar length; one whose regimes are more than the budget is alone, and read in several passes."""
        from anchorflow.scoring import pack

        in_order = sorted(units, key=lambda unit: (-unit.length, unit.repetition))
        return pack(in_order, [unit.length * len(unit.series) for unit in in_order], batch_tokens)

    def map(
        self,
        lm: LanguageModel,
        work: Repetitions,
        batches: Iterable[Sequence[Repetition]],
        folder: Path,
        batch_tokens: int,
    ) -> Iterator[list[Record]]:
        """Records with the label words' log-probabilities right before every label: one pass for a regime's whole curve."""
        import torch

        from anchorflow.scoring import label_log_probabilities_along, pack

        priors = {
            name: torch.stack([label_log_probabilities_along(lm, [prompt])[0][0] for prompt in prompts]).mean(dim=0)
            for name, prompts in work.content_free.items()
        }
        for batch in batches:
            parts = [(unit.repetition, name, series) for unit in batch for name, series in unit.series.items()]
            parts.sort(key=lambda part: -len(part[2].ids))
            found = {}
            for together in pack(parts, [len(series.ids) for *_, series in parts], batch_tokens):
                scored = label_log_probabilities_along(lm, [series for *_, series in together])
                for (number, name, _), scores in zip(together, scored, strict=True):
                    if name in priors:
                        scores = torch.log_softmax(scores - priors[name], dim=-1)
                    found[number, name] = scores.tolist()
            yield [
                {
                    **unit.head,
                    "frequencies": list(work.frequencies),
                    "regimes": {
                        name: {
                            "shown": [word.strip() for word in shown],
                            "log_probabilities": found[unit.repetition, name],
                        }
                        for name, shown in unit.shown.items()
                    },
                }
                for unit in batch
            ]

    def finish(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records as they are."""
        return records

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """Every regime's curves, their values at the largest context, and the tests of the null hypotheses.

        Metrics named A_minus_B are mean paired differences, A_minus_B_p their p; the table `differences` has both with
        the 95 % confidence interval, of a paired t test and of a bootstrap. Of every regime and difference there is also
        the mean over the second half of the curve.
        """
        scores = {regime.name: self.measured(records, regime) for regime in self.parsed}
        n = len(records[0]["labels"])
        frequencies = np.array(records[0]["frequencies"])
        guessing = float((frequencies[frequencies > 0] * np.log(frequencies[frequencies > 0])).sum())
        values = {"n_demonstrations": n, "guessing/accuracy": float(frequencies.max())}
        values |= {"guessing/log_likelihood": guessing, "guessing/entropy": -guessing}
        stderr: dict[str, float] = {}
        curves = {}
        balanced = self._balanced(n)
        for name, of_regime in scores.items():
            for measure, found in of_regime.items():
                average = statistics.share_and_stderr if measure in SHARES else statistics.mean_and_stderr
                mean, error = average(found)
                curves[f"{name}/{measure}"] = Curve("n_demonstrations", range(n), mean.tolist(), error.tolist())
                places = {"at_max": n - 1, **{f"at_{at}": at for at, names in balanced.items() if name in names}}
                for place, at in places.items():
                    values[f"{name}/{measure}_{place}"] = float(mean[at])
                    stderr[f"{name}/{measure}_{place}"] = float(error[at])
                half, error = average(found[:, second_half(n)].mean(axis=1, keepdims=True))
                values[f"{name}/{measure}_{SECOND_HALF}"] = float(half[0])
                stderr[f"{name}/{measure}_{SECOND_HALF}"] = float(error[0])
        scores["guessing"] = {
            measure: np.full((len(records), n), values[f"guessing/{measure}"])
            for measure in ("accuracy", "log_likelihood")
        }
        tests, tables = outcomes(contrasts(self.comparisons(n, len(frequencies)), n), scores)
        for name, test in tests.items():
            values |= {name: test.mean, f"{name}_p": test.p}
            stderr[name] = test.stderr
        late = [r.name for r in self.parsed if r.kind in ("flip_after", "default_after") and r.turn and 2 * r.turn >= n]
        notes = [f"{name} has no place with as many labels of both sides; n_demonstrations is {n}" for name in late]
        return Result(metrics=values, stderr=stderr, curves=curves, tables=tables, notes=notes)

    def measured(self, records: Sequence[Record], regime: Regime) -> dict[str, np.ndarray]:
        """Each measure of a regime [repetition, example], as this experiment calibrates."""
        return measures(records, regime, cross_fitted if self.calibrate == "per_position" else None)

    def comparisons(self, n: int, classes: int) -> list[Comparison]:
        """What the null hypotheses are tested by, of those regimes that were run with `n` examples of so many classes.

        NH1, default against random: log-likelihood at the largest context. NH2, default against flipped: entropy, and
        log-likelihood of the labels that each shows; two orders of the same replaced words: log-likelihood. NH3, where
        regimes that change side have shown as many labels of both: log-likelihood of the true ones.
        """
        found = []
        names = {regime.name for regime in self.parsed}
        steady = [regime for regime in self.parsed if not regime.turn and regime.kind != "default"]
        flipped = {regime.name for regime in steady if regime.flips(classes)}

        def add(first: str, second: str, of_first: str, of_second: str, at: int, suffix: str = "") -> None:
            found.append(Comparison(f"{first}_minus_{second}{suffix}", (first, of_first), (second, of_second), at))

        likelihood, entropy = "log_likelihood", "entropy"
        if "default" in names:
            add("default", "guessing", likelihood, likelihood, n - 1)
            for regime in steady:
                shown = "flipped_log_likelihood" if regime.name in flipped else likelihood
                add("default", regime.name, likelihood, shown, n - 1)
                if regime.name in flipped:
                    add("default", regime.name, entropy, entropy, n - 1, "_entropy")
        replaced = sorted((regime for regime in steady if regime.kind == "replaced"), key=lambda regime: regime.name)
        for a, b in combinations(replaced, 2):
            if set(a.argument) == set(b.argument):
                add(a.name, b.name, likelihood, likelihood, n - 1)
        for at, together in self._balanced(n).items():
            for first, second in combinations(together, 2):
                add(first, second, likelihood, likelihood, at, f"_at_{at}")
        return found

    def _balanced(self, n: int) -> dict[int, list[str]]:
        """Numbers of examples (twice a change point) after which regimes have shown as many labels of both sides."""
        places = sorted({2 * r.turn for r in self.parsed if r.kind in ("flip_after", "default_after")})
        in_order = sorted(self.parsed, key=lambda regime: TURNING.index(regime.kind) if regime.turn else -1)
        return {at: [r.name for r in in_order if r.balanced(at)] for at in places if 0 < at < n}


def measures(
    records: Sequence[Record], regime: Regime, calibrate: Callable[[np.ndarray], np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Each measure of a regime: [repetition, example]; `calibrate` changes the log-probabilities before."""
    truth = np.array([record["labels"] for record in records])
    scores = np.array([record["regimes"][regime.name]["log_probabilities"] for record in records], dtype=float)
    scores = scores if calibrate is None else calibrate(scores)
    predicted, flipped = scores.argmax(axis=2), (truth + 1) % scores.shape[2]

    def likelihood(of: np.ndarray) -> np.ndarray:
        return np.take_along_axis(scores, of[:, :, None], axis=2)[:, :, 0]

    of_truth = [(predicted == truth).astype(float), likelihood(truth), -(np.exp(scores) * scores).sum(axis=2)]
    found = dict(zip(MEASURES, of_truth, strict=True))
    if regime.turn or regime.flips(scores.shape[2]):
        found |= zip(FLIPPED, [(predicted == flipped).astype(float), likelihood(flipped)], strict=True)
    return found


class _Writers:
    """Draws a task's repetitions and writes them in every regime."""

    def __init__(
        self, task: Task, builder: PromptBuilder, regimes: Sequence[Regime], instruction: str, seed: int
    ) -> None:
        counts = Counter(example.label for example in task.train)
        self.frequencies = tuple(counts[label] / len(task.train) for label in range(len(task.label_words)))
        self._task = task
        self._seed = seed
        self._regimes = regimes
        self._builders = {r.name: builder.with_words(r.words(task.label_words)) for r in regimes}
        self._instructions = {
            name: instruct(instruction, task.name, [word.strip() for word in writer.label_words])
            for name, writer in self._builders.items()
        }

    def repetition(self, number: int, n: int) -> Repetition:
        """The first `n` examples of a repetition, drawn from the train split without balancing."""
        key = f"{self._seed + number}/label_relationships"
        draw = Random(f"{key}/examples").randrange
        places: dict[int, None] = {}
        while len(places) < n:
            places[draw(len(self._task.train))] = None
        examples = [self._task.train[place] for place in places]
        truth = [example.label for example in examples]
        shown = {
            r.name: tuple(r.show(truth, self._task.label_words, self.frequencies, Random(f"{key}/{r.name}")))
            for r in self._regimes
        }
        series = {name: self._write(name, examples, words) for name, words in shown.items()}
        return Repetition(number, tuple(example.row for example in examples), tuple(truth), shown, series)

    def content_free(self) -> Mapping[str, tuple[Series, ...]]:
        """Prompts for the prior: a text without content, behind the instruction, without any example."""
        return {
            name: tuple(self._write(name, [Example(0, text, 0, text)], writer.label_words[:1]) for text in CONTENT_FREE)
            for name, writer in self._builders.items()
        }

    def _write(self, name: str, examples: Sequence[Example], words: Sequence[str]) -> Series:
        return self._builders[name].series(examples, words, self._instructions[name])


def instruct(instruction: str, task: str, words: Sequence[str]) -> str:
    """The line before the examples; `words` are the label words in force."""
    quoted = [f"'{word}'" for word in words]
    means = [f"{shown} means {quoted[i - 1]}" for i, shown in enumerate(quoted)]
    return {
        "none": "",
        "classify": f"In the following, classify each example of {task} as {_listed(quoted, 'or')}.",
        "invert": f"In the following, {_listed(means, 'and')}.",
        "ignore": "In the following, ignore all prior knowledge of what the answers mean: learn it from the examples.",
    }[instruction]


def _listed(parts: Sequence[str], word: str) -> str:
    return f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _check_turns(regimes: Sequence[Regime], n: int) -> None:
    """ValueError for a regime that would not change side before the last of `n` examples, which no prediction sees."""
    for regime in regimes:
        if regime.turn and regime.turn >= n - 1:
            raise ValueError(
                f"{regime.kind} is {regime.turn} with n_demonstrations={n}; allowed: less than {n - 1}, "
                "since no prediction follows the last example"
            )
