"""The effect of isolating label words from their demonstrations (Label Words are Anchors, sec. 2.2, figs. 4, 8, table 5)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import variants
from anchorflow.experiments.few_shot import FewShot, Queries
from anchorflow.prompts import Prompt
from anchorflow.results import Record, Result, metrics, statistics
from anchorflow.settings import configurable, setting

if TYPE_CHECKING:
    from anchorflow.attention import Context, Halfway, Isolate
    from anchorflow.models import LanguageModel, Shape

Scores = list[dict[str, Any]]
"""The text that records keep for some prompts."""

KINDS = ("label_first", "label_last", "random_first", "random_last")
MEASURES = ("label_loyalty", "word_loyalty", "accuracy")
CONTROLS = {
    "per_layer": "random positions are drawn anew for every query and every layer, from the whole prompt",
    "per_seed": "all queries and layers share their random positions, which are drawn from the demonstrations",
}


@dataclass(frozen=True)
class Change:
    """A variant: the changed layers (from 0), and the draw of random positions (None: the label words)."""

    name: str
    layers: tuple[int, ...]
    last: bool
    draw: int | None = None

    @property
    def start(self) -> int:
        """The first changed layer; below it, everything equals the untouched model."""
        return self.layers[0] if self.last else 0


@configurable
class Isolation(FewShot):
    """Loyalty to the untouched model when, in its first or last k layers, label words see only themselves.

    The control isolates the same number of random positions, drawn `random_draws` times. `control: per_layer` (the paper's)
    draws them anew for every query and layer, from all positions except the label words and the last two; `per_seed` draws
    them once for all queries and layers, from the demonstrations, which queries can then share: several times as fast.
    """

    name: ClassVar[str] = "isolation"
    needs: ClassVar[tuple[str, ...]] = ("causal", "taps", "dense")
    first_or_last_k: tuple[int, ...] = (1, 3, 5, 7)
    """Numbers of layers in which to isolate, counted from the first and from the last."""
    control: Literal["per_seed", "per_layer"] = "per_seed"
    """How often the control's random positions are drawn: once per seed, or for every query and layer (the paper's)."""
    random_draws: int = 1
    """Number of draws of the control's random positions."""
    keep_examples: int = setting(default=1, kind="shown")
    """Number of queries whose five most probable words are saved as text, for table 5 of a report."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.first_or_last_k or min(self.first_or_last_k) < 1:
            raise ValueError(f"first_or_last_k is {list(self.first_or_last_k)}; allowed: numbers of layers from 1")
        if self.random_draws < 1:
            raise ValueError(f"random_draws is {self.random_draws}; allowed: 1 or more")
        if self.keep_examples < 0:
            raise ValueError(f"keep_examples is {self.keep_examples}; allowed: 0 (none) or more")

    def check(self, task: Task, shape: Shape) -> None:
        """Raise UserError if a k is larger than the number of layers."""
        super().check(task, shape)
        most = len(shape.attending)
        if max(self.first_or_last_k) > most:
            kind = "layers" if most == shape.layers else "attention layers"
            raise UserError(
                f"experiment.first_or_last_k is {list(self.first_or_last_k)}; {shape.name} has {most} {kind}, "
                f"allowed: 1 to {most}."
            )

    def map(
        self, lm: LanguageModel, work: Queries, batches: Iterable[Sequence[Prompt]], folder: Path, batch_tokens: int
    ) -> Iterator[list[Record]]:
        """Records with a variant for every k, first and last layers, label words and random positions.

        Variants differ only in the prefill of the demonstrations, unless every query has its own random positions. If only
        the last layers differ, passes start from the output of the layers below.
        """
        from anchorflow.attention import Halfway

        changes = self.changes(lm.shape)
        halfway = Halfway(lm.model)
        kept = self._kept(lm, work)
        shared = [c for c in changes if "context" in lm.can and (c.draw is None or self.control == "per_seed")]
        apart = [change for change in changes if change not in shared]
        behind_contexts = self._behind_contexts(lm, halfway, shared, work.seed)
        for prompts in batches:
            found = behind_contexts(prompts) if shared else {}
            if apart:
                found |= self._of_whole_prompts(lm, halfway, apart, prompts, work.seed, batch_tokens)
            records: list[Record] = [
                {
                    **p.head,
                    **variants.of_layers(lm.shape),
                    "variants": {name: found[name][i] for name in ("full", *(change.name for change in changes))},
                }
                for i, p in enumerate(prompts)
            ]
            for record in records:
                if record["query"] in kept:
                    record["words"] = {
                        name: [lm.tokenizer.decode([token]) for token in variant["top5"]]
                        for name, variant in record["variants"].items()
                    }
            yield records

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """Label loyalty, word loyalty and accuracy of every variant, as metrics and as curves over k."""
        accuracy = metrics.accuracy(variants.truth(records), variants.probs(records))
        names = ("accuracy", "full/accuracy")
        values = dict.fromkeys(names, accuracy)
        stderr = dict.fromkeys(names, statistics.proportion_stderr(accuracy, len(records)))
        curves = {}
        ks = sorted(set(self.first_or_last_k))
        for kind in KINDS:
            draws = self.random_draws if kind.startswith("random") else 1
            shared = self.control == "per_seed"
            found = {k: variants.measure(records, f"{kind}_{k}", draws, shared) for k in ks}
            for measure in MEASURES:
                curves[f"{kind}/{measure}"] = variants.curve("k", ks, [found[k][measure] for k in ks])
                for k in ks:
                    values[f"{kind}_{k}/{measure}"], stderr[f"{kind}_{k}/{measure}"] = found[k][measure]
        notes = variants.layer_notes(records)
        notes += [f"control={self.control}: {CONTROLS[self.control]}"]
        if self.control == "per_seed" and self.random_draws == 1:
            notes.append("random positions were drawn once: errors are over queries and do not include the draw")
        return Result(metrics=values, stderr=stderr, curves=curves, notes=notes)

    def changes(self, shape: Shape) -> list[Change]:
        """All variants except the untouched model."""
        found = []
        for k in sorted(set(self.first_or_last_k)):
            for where, layers in (("first", shape.attending[:k]), ("last", shape.attending[-k:])):
                found.append(Change(f"label_{where}_{k}", layers, where == "last"))
                for draw in range(self.random_draws):
                    name = variants.draw_name(f"random_{where}_{k}", draw)
                    found.append(Change(name, layers, where == "last", draw))
        return found

    def positions(self, prompt: Prompt, change: Change, layer: int, seed: int) -> Sequence[int]:
        """The isolated positions in a layer (from 0); the positions of a draw are the same for every k."""
        if change.draw is None:
            return prompt.anchors
        words = {position for d in prompt.demonstrations for position in d.label_word}
        if self.control == "per_seed":
            others = [p for d in prompt.demonstrations for p in range(d.start, d.stop) if p not in words]
            key = f"{seed}/isolation/{change.draw}"
        else:
            others = [p for p in range(prompt.length - 2) if p not in words]
            key = f"{seed}/isolation/{change.draw}/{prompt.query}/{layer}"
        return random.Random(key).sample(others, min(len(prompt.anchors), len(others)))

    def _tap(self, lm: LanguageModel, prompts: Sequence[Prompt], change: Change, seed: int) -> Isolate:
        """The tap for these prompts, with one row of positions per prompt."""
        import torch

        from anchorflow.attention import Isolate
        from anchorflow.models import to_device

        positions: dict[int, torch.Tensor] = {}
        for layer in change.layers:
            if positions and (change.draw is None or self.control == "per_seed"):  # the same in all layers
                positions[layer] = next(iter(positions.values()))
                continue
            drawn = [self.positions(prompt, change, layer, seed) for prompt in prompts]
            most = max(map(len, drawn))
            positions[layer] = to_device([[*row, *[0] * (most - len(row))] for row in drawn], lm.device, torch.long)
        return Isolate(positions)

    def _behind_contexts(
        self, lm: LanguageModel, halfway: Halfway, changes: Sequence[Change], seed: int
    ) -> Callable[[Sequence[Prompt]], dict[str, Scores]]:
        """A function that scores batches of prompts after the same demonstrations, prefilled once per variant."""
        import torch

        from anchorflow.attention import read, tapped
        from anchorflow.scoring import Contexts, collate, next_word_logits, scores

        by_name = {change.name: change for change in changes}

        def isolated(prompt: Prompt) -> dict[str, Context]:
            found = {"full": read(lm.model, prompt.shared, lm.device)}
            for change in changes:
                with tapped(lm.model, self._tap(lm, [prompt], change, seed)):
                    found[change.name] = read(lm.model, prompt.shared, lm.device)
            return found

        contexts = Contexts(isolated)

        def behind(prompts: Sequence[Prompt]) -> dict[str, Scores]:
            batch = collate(prompts, lm.device, prompts[0].shared)
            found = {}
            with torch.no_grad():
                for name, context in contexts(prompts[0]).items():
                    with self._below(lm, halfway, changes, by_name.get(name)):
                        found[name] = scores(next_word_logits(lm, batch, context), batch)
            return found

        return behind

    def _of_whole_prompts(
        self,
        lm: LanguageModel,
        halfway: Halfway,
        changes: Sequence[Change],
        prompts: Sequence[Prompt],
        seed: int,
        batch_tokens: int,
    ) -> dict[str, Scores]:
        """The same without sharing: each prompt has its own positions, or must be computed whole."""
        import torch

        from anchorflow.attention import tapped
        from anchorflow.scoring import collate, next_word_logits, only, plan, readable, scores

        found: dict[str, dict[int, dict[str, Any]]] = {}
        for part in readable(lm, plan(prompts, batch_tokens), batch_tokens):
            batch = collate(part, lm.device)
            with torch.no_grad():
                for change in (None, *changes):
                    with ExitStack() as stack:
                        start = stack.enter_context(self._below(lm, halfway, changes, change))
                        if change is not None:
                            tap = self._tap(lm, part, change, seed)
                            stack.enter_context(tapped(lm.model, tap, only=only(lm, batch), start=start))
                        of_part = scores(next_word_logits(lm, batch), batch)
                    of_all = found.setdefault("full" if change is None else change.name, {})
                    of_all |= {prompt.query: score for prompt, score in zip(part, of_part, strict=True)}
        return {name: [of_all[prompt.query] for prompt in prompts] for name, of_all in found.items()}

    @contextmanager
    def _below(
        self, lm: LanguageModel, halfway: Halfway, changes: Sequence[Change], change: Change | None
    ) -> Iterator[int]:
        """Within the block, store the output below the changed layers (no change) or reuse it; yields the first layer run."""
        if "halfway" not in lm.can:
            yield 0
        elif change is None:
            with halfway.noting({each.start for each in changes}):
                yield 0
        else:
            with halfway.beginning(change.start):
                yield change.start

    def _kept(self, lm: LanguageModel, work: Queries) -> set[int]:
        """The rows of the first queries that fit the model's context."""
        fitting = (p.query for p in work.prompts if lm.max_length is None or p.length <= lm.max_length)
        return set(islice(fitting, self.keep_examples))
