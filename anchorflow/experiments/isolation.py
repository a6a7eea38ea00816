"""What label words that cannot see their demonstration cost (Label Words are Anchors, sec. 2.2, fig. 4)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import variants
from anchorflow.experiments.few_shot import FewShot, Queries
from anchorflow.prompts import Prompt
from anchorflow.results import Record, Result, metrics, statistics
from anchorflow.settings import configurable

if TYPE_CHECKING:
    from anchorflow.attention import Context
    from anchorflow.models import LanguageModel, Shape

KINDS = ("label_first", "label_last", "random_first", "random_last")
MEASURES = ("label_loyalty", "word_loyalty", "accuracy")


@configurable
class Isolation(FewShot):
    """Loyalty to the untouched model when, in its first or last k layers, label words see only themselves.

    The control isolates as many random positions of the demonstrations, drawn `random_draws` times.
    """

    name: ClassVar[str] = "isolation"
    needs: ClassVar[tuple[str, ...]] = ("causal", "taps", "context")
    first_or_last_k: tuple[int, ...] = (1, 3, 5, 7)
    """Numbers of layers to isolate, from the first and from the last."""
    random_draws: int = 1
    """Draws of the control's random positions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.first_or_last_k or min(self.first_or_last_k) < 1:
            raise ValueError(f"first_or_last_k is {list(self.first_or_last_k)}; allowed: numbers of layers from 1")
        if self.random_draws < 1:
            raise ValueError(f"random_draws is {self.random_draws}; allowed: 1 or more")

    def check(self, task: Task, shape: Shape) -> None:
        """UserError if a k is larger than the model."""
        super().check(task, shape)
        if max(self.first_or_last_k) > shape.layers:
            raise UserError(
                f"experiment.first_or_last_k is {list(self.first_or_last_k)}; {shape.name} has {shape.layers} layers, "
                f"allowed: 1 to {shape.layers}."
            )

    def map(
        self, lm: LanguageModel, work: Queries, batches: Iterable[Sequence[Prompt]], folder: Path, batch_tokens: int
    ) -> Iterator[list[Record]]:
        """Records with a variant for every k, first and last layers, label words and random positions.

        Only the reading of the demonstrations differs between them; where the last layers differ, queries go on from
        what came out of the layers below.
        """
        import torch

        from anchorflow.attention import Halfway, Isolate, read, tapped
        from anchorflow.scoring import Contexts, collate, next_word_logits, scores

        layers = self._layers(lm.shape.layers)
        halfway = Halfway(lm.model)

        def isolated(prompt: Prompt) -> dict[str, Context]:
            positions = self._positions(prompt, work.seed)
            found = {"full": read(lm.model, prompt.shared, lm.device)}
            for name, changed in layers.items():
                with tapped(lm.model, Isolate(positions[name], changed)):
                    found[name] = read(lm.model, prompt.shared, lm.device)
            return found

        contexts = Contexts(isolated)
        for prompts in batches:
            batch = collate(prompts, lm.device, prompts[0].shared)
            found = {}
            with torch.no_grad():
                for name, context in contexts(prompts[0]).items():
                    changed = layers.get(name)  # first layers begin at 0: there is nothing below
                    starts = {chosen.start for chosen in layers.values()}
                    with halfway.beginning(changed.start) if changed else halfway.noting(starts):
                        found[name] = scores(next_word_logits(lm, batch, context), batch)
            yield [{**p.head, "variants": {name: s[i] for name, s in found.items()}} for i, p in enumerate(prompts)]

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
            found = {k: variants.measure(records, f"{kind}_{k}", draws) for k in ks}
            for measure in MEASURES:
                curves[f"{kind}/{measure}"] = variants.curve("k", ks, [found[k][measure] for k in ks])
                for k in ks:
                    values[f"{kind}_{k}/{measure}"], stderr[f"{kind}_{k}/{measure}"] = found[k][measure]
        notes = []
        if self.random_draws == 1:
            notes.append("random positions were drawn once: their errors are over queries and leave out the draw")
        return Result(metrics=values, stderr=stderr, curves=curves, notes=notes)

    def _layers(self, n_layers: int) -> dict[str, range]:
        """The layers (from 0) of every variant but the untouched one."""
        found = {}
        for k in sorted(set(self.first_or_last_k)):
            for name, layers in (("first", range(k)), ("last", range(n_layers - k, n_layers))):
                found[f"label_{name}_{k}"] = layers
                for draw in range(self.random_draws):
                    found[variants.draw_name(f"random_{name}_{k}", draw)] = layers
        return found

    def _positions(self, prompt: Prompt, seed: int) -> Mapping[str, Sequence[int]]:
        """The isolated positions of every variant; those of a random draw are the same for every k."""
        labels = {position for d in prompt.demonstrations for position in d.label_word}
        others = [p for d in prompt.demonstrations for p in range(d.start, d.stop) if p not in labels]
        count = min(len(prompt.anchors), len(others))
        found: dict[str, Sequence[int]] = {}
        for k in self.first_or_last_k:
            for where in ("first", "last"):
                found[f"label_{where}_{k}"] = prompt.anchors
                for draw in range(self.random_draws):
                    chosen = random.Random(f"{seed}/isolation/{draw}").sample(others, count)
                    found[variants.draw_name(f"random_{where}_{k}", draw)] = chosen
        return found
