"""The effect of labels in the context over the number of examples (In-Context Learning Learns Label Relationships)."""

from __future__ import annotations

import logging
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator

from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments.base import REPETITION, UnitKind
from anchorflow.experiments.calibration import cross_fitted, named
from anchorflow.experiments.contrasts import SECOND_HALF, Comparison, contrasts, outcomes, second_half
from anchorflow.experiments.repetitions import Draw, Instruction, Repetitions, Writers
from anchorflow.prompts import PromptBuilder, Repetition
from anchorflow.prompts.labels import TURNING, Regime, parse
from anchorflow.results import Curve, Record, Result, statistics
from anchorflow.settings import configurable, defaults_of, setting

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel, Shape

log = logging.getLogger(__name__)

AS_THE_PAPER = (
    "these are quick defaults; the paper uses 500 repetitions (100 for replaced labels) and as many examples as fit the "
    "context: experiment.repetitions=500 experiment.n_demonstrations=null, or a preset (-m sweep=nh1_random_labels)"
)
MEASURES = ("accuracy", "log_likelihood", "entropy")
FLIPPED = ("flipped_accuracy", "flipped_log_likelihood")
"""The same measures against the flipped labels, for regimes that show them."""
SHARES = ("accuracy", "flipped_accuracy")


@configurable
class LabelRelationships:
    """Curves of accuracy, log-likelihood and entropy over the number of examples, under each label regime.

    A repetition concatenates `n_demonstrations` train examples; each is predicted from those before it, so curves go from 0
    to n_demonstrations - 1. All regimes show the same examples in the same order. If `n_demonstrations` is null, a
    repetition has as many examples as fit the context in all repetitions, but no more than `at_most`.
    The defaults take minutes on a CPU. The paper fills the context and repeats 500 times: n_demonstrations=null
    repetitions=500 draw=with_replacement, as in the presets nh1_random_labels and so on.
    """

    name: ClassVar[str] = "label_relationships"
    needs: ClassVar[tuple[str, ...]] = ("causal", "prefix")
    unit: ClassVar[UnitKind] = REPETITION
    version: ClassVar[str] = "2"

    regimes: tuple[str | dict[str, Any], ...] = ("default", "random", "flipped")
    """The labels that the examples show: default, random, flipped, {noise: 0.25}, {replaced: [A, B]}, {flip_after: 20},
    {default_after: 20}, {alternating: 1}, {constant: A}, and controls: shuffled (labels of other examples), {random: 0.5}
    and {random_until: 20} (random in a part of the context), predicted (by the model itself)."""
    n_demonstrations: int | None = 12
    """Number of examples in a repetition; null, as in the paper, takes as many as fit the context in every repetition."""
    at_most: int | None = None
    """If n_demonstrations is null: the largest number of examples."""
    draw: Draw = "without_replacement"
    """How examples are drawn from the train split; the paper's code draws with replacement."""
    repetitions: int = 100
    """Number of draws of the examples; the paper uses 500, and 100 for replaced labels."""
    instruction: Instruction = "none"
    """A line before the examples: classify names the task and its words, instruct gives the meaning of flipped words, invert
    asks to flip all answers, ignore asks to ignore prior knowledge."""
    calibrate: Annotated[Literal["none", "content_free", "per_position"], BeforeValidator(named)] = "none"
    """Subtract a log-prior from the log-probabilities of label words: `content_free` takes it from prompts without content,
    `per_position` is the mean over the other repetitions at the same number of examples."""
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
        """The parsed regimes."""
        return parse(self.regimes)

    def unused(self) -> tuple[str, ...]:
        """`at_most` has no effect if `n_demonstrations` is given."""
        return () if self.n_demonstrations is None else ("at_most",)

    def check(self, task: Task, shape: Shape) -> None:
        """Raise UserError if there are too few examples, or if replaced words do not match the number of classes."""
        most = self._most(task)
        if self.n_demonstrations is not None and self.n_demonstrations > most:
            raise UserError(
                f"experiment.n_demonstrations is {self.n_demonstrations}; the train split of {task.name} has "
                f"{most} examples."
            )
        for regime in self.parsed:
            try:
                regime.words(task.label_words)
            except ValueError as error:
                raise UserError(f"experiment.regimes: {error} ({', '.join(task.labels)}).") from error

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> Repetitions:
        """A repetition's examples and labels depend only on seed + repetition; a smaller number takes the first examples."""
        writers = Writers(task, builder, self.parsed, instruction=self.instruction, draw=self.draw, seed=seed)
        if self.n_demonstrations is None:
            most = min(self._most(task), self.at_most or sys.maxsize)
            repetitions = self._as_many_as_fit(writers, most, builder.limit.tokens)
        else:
            repetitions = [writers.repetition(number, self.n_demonstrations) for number in range(self.repetitions)]
        return Repetitions(
            units=tuple(repetitions),
            label_words=task.label_words,
            frequencies=writers.frequencies,
            content_free=writers.content_free() if self.calibrate == "content_free" else {},
        )

    def longest(self, task: Task, builder: PromptBuilder, seed: int, most: int) -> Sequence[Repetition]:
        """The first repetitions, at most `most` of them."""
        few = replace(self, repetitions=min(self.repetitions, max(2, most)))
        return few.prepare(task, builder, seed).units

    def _most(self, task: Task) -> int:
        """The largest possible number of examples in a repetition."""
        return sys.maxsize if self.draw == "with_replacement" else len(task.train)

    def _as_many_as_fit(self, writers: Writers, most: int, limit: int | None) -> list[Repetition]:
        """Repetitions with the largest number of examples whose prompts fit the limit in all repetitions."""
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
                raise UserError(
                    f"not even one example fits the context of {limit} tokens: that of repetition {number} is longer."
                )
        log.info("n_demonstrations: %d fit the context of %d tokens in every repetition", n, limit)
        try:
            _check_turns(self.parsed, n)
        except ValueError as error:
            raise UserError(f"experiment.regimes: {error}; this is the number of examples that fit.") from error
        return [repetition.first(n) for repetition in repetitions]

    def plan(self, units: Sequence[Repetition], batch_tokens: int) -> list[list[Repetition]]:
        """Batches of repetitions of similar length. A repetition beyond the budget is a batch of its own, in several passes."""
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
        """Records with the label words' log-probabilities before every label; one pass gives the whole curve of a regime."""
        import torch

        from anchorflow.experiments.beginnings import choose, scores_along
        from anchorflow.scoring import label_log_probabilities_along

        priors = {
            name: torch.stack([label_log_probabilities_along(lm, [prompt])[0][0] for prompt in prompts]).mean(dim=0)
            for name, prompts in work.content_free.items()
        }
        for batch in batches:
            known = [[name for name in unit.series if name not in unit.write] for unit in batch]
            families = [[unit.series[name] for name in names] for unit, names in zip(batch, known, strict=True)]
            scored = scores_along(lm, families, batch_tokens)
            records = []
            for unit, names, scores in zip(batch, known, scored, strict=True):
                shown: dict[str, Sequence[str]] = dict(unit.shown)
                found = dict(zip(names, scores, strict=True))
                for name, write in unit.write.items():
                    shown[name], found[name] = choose(lm, write, work.label_words, len(unit.labels))
                for name in priors:
                    found[name] = torch.log_softmax(found[name] - priors[name], dim=-1)
                of_regimes = {
                    name: {"shown": [word.strip() for word in shown[name]], "log_probabilities": found[name].tolist()}
                    for name in unit.series
                }
                records.append({**unit.head, "frequencies": list(work.frequencies), "regimes": of_regimes})
            yield records

    def finish(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records as they are."""
        return records

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """The curves of every regime, their values at the largest context, and the tests of the null hypotheses.

        Metrics named A_minus_B are mean paired differences, A_minus_B_p their p; the table `differences` has both with
        95 % confidence intervals of a paired t test and of a bootstrap. Every regime and difference also has the mean over
        the second half of the curve.
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
        notes = [f"{name} never has equally many true and flipped labels; n_demonstrations is {n}" for name in late]
        quick = defaults_of(type(self))
        if all(getattr(self, key) == quick[key] for key in ("n_demonstrations", "repetitions")):
            notes.append(AS_THE_PAPER)
        return Result(metrics=values, stderr=stderr, curves=curves, tables=tables, notes=notes)

    def measured(self, records: Sequence[Record], regime: Regime) -> dict[str, np.ndarray]:
        """Each measure of a regime [repetition, example], calibrated as this experiment sets."""
        return measures(records, regime, cross_fitted if self.calibrate == "per_position" else None)

    def comparisons(self, n: int, classes: int) -> list[Comparison]:
        """The comparisons that test the null hypotheses, given the regimes, `n` examples and the number of classes.

        NH1, default against random: log-likelihood at the largest context. NH2, default against flipped: entropy, and
        log-likelihood of the labels that each shows; two orders of the same replaced words: log-likelihood. NH3, at the
        point where switching regimes have shown equally many labels of both sides: log-likelihood of the true labels.
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
        """Numbers of examples (twice a change point) after which regimes have shown equally many labels of both sides."""
        places = sorted({2 * r.turn for r in self.parsed if r.kind in ("flip_after", "default_after")})
        in_order = sorted(self.parsed, key=lambda regime: TURNING.index(regime.kind) if regime.turn else -1)
        return {at: [r.name for r in in_order if r.balanced(at)] for at in places if 0 < at < n}


def measures(
    records: Sequence[Record], regime: Regime, calibrate: Callable[[np.ndarray], np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Each measure of a regime [repetition, example]; `calibrate` is applied to the log-probabilities first."""
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


def _check_turns(regimes: Sequence[Regime], n: int) -> None:
    """Raise ValueError for a regime that changes only at the last of `n` examples or later, which no prediction sees."""
    for regime in regimes:
        if regime.change and regime.change >= n - 1:
            raise ValueError(
                f"{regime.kind} is {regime.change} with n_demonstrations={n}; allowed: less than {n - 1}, "
                "because no prediction follows the last example"
            )
