"""What label words that cannot see their demonstration cost (Label Words are Anchors, sec. 2.2, figs. 4 and 8, table 5)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    from anchorflow.attention import Context, Halfway
    from anchorflow.models import LanguageModel, Shape

KINDS = ("label_first", "label_last", "random_first", "random_last")
MEASURES = ("label_loyalty", "word_loyalty", "accuracy")
CONTROLS = {
    "per_layer": "random positions are drawn anew for every query and every layer, from the whole prompt",
    "per_seed": "all queries and layers share their random positions, which are drawn from the demonstrations",
}


@configurable
class Isolation(FewShot):
    """Loyalty to the untouched model when, in its first or last k layers, label words see only themselves.

    The control isolates as many random positions, drawn `random_draws` times: with `control: per_layer` anew for every
    query and every layer, from all positions of the prompt but the label words and the last two (the paper's); with
    `per_seed` once for all queries and layers, from the demonstrations, which queries then can share: several times as fast.
    """

    name: ClassVar[str] = "isolation"
    first_or_last_k: tuple[int, ...] = (1, 3, 5, 7)
    """Numbers of layers to isolate, from the first and from the last."""
    control: Literal["per_seed", "per_layer"] = "per_seed"
    """How often the control's random positions are drawn: once per seed, or for every query and layer (the paper's)."""
    random_draws: int = 1
    """Draws of the control's random positions."""
    keep_examples: int = setting(default=1, kind="shown")
    """Queries whose five most probable words are kept as text, for table 5 of a report."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.first_or_last_k or min(self.first_or_last_k) < 1:
            raise ValueError(f"first_or_last_k is {list(self.first_or_last_k)}; allowed: numbers of layers from 1")
        if self.random_draws < 1:
            raise ValueError(f"random_draws is {self.random_draws}; allowed: 1 or more")
        if self.keep_examples < 0:
            raise ValueError(f"keep_examples is {self.keep_examples}; allowed: 0 (none) or more")

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

        Only the reading of the demonstrations differs between them, unless every query has random positions of its own;
        where the last layers differ, queries go on from what came out of the layers below.
        """
        import torch

        from anchorflow.attention import Halfway, Isolate, read, tapped
        from anchorflow.models import to_device
        from anchorflow.scoring import Contexts, collate, next_word_logits, scores

        layers = self._layers(lm.shape.layers)
        halfway = Halfway(lm.model)
        kept = self._kept(lm, work)

        def isolated(prompt: Prompt) -> dict[str, Context]:
            found = {"full": read(lm.model, prompt.shared, lm.device)}
            for name, positions in self._positions(prompt, work.seed).items():
                rows = to_device([list(positions)], lm.device, torch.long)
                with tapped(lm.model, Isolate(dict.fromkeys(layers[name], rows))):
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
            if self.control == "per_layer":
                found |= self._per_layer(lm, halfway, prompts, work.seed, batch_tokens)
            records: list[Record] = [
                {**p.head, "variants": {name: found[name][i] for name in ("full", *layers)}}
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
        notes = [f"control={self.control}: {CONTROLS[self.control]}"]
        if self.control == "per_seed" and self.random_draws == 1:
            notes.append("random positions were drawn once: their errors are over queries and leave out the draw")
        return Result(metrics=values, stderr=stderr, curves=curves, notes=notes)

    def _stretches(self, n_layers: int) -> dict[str, range]:
        """The layers (from 0) that are changed, by the end of a variant's name."""
        ks = sorted(set(self.first_or_last_k))
        return {
            f"{where}_{k}": range(k) if where == "first" else range(n_layers - k, n_layers)
            for k in ks
            for where in ("first", "last")
        }

    def _layers(self, n_layers: int) -> dict[str, range]:
        """Those of every variant but the untouched one."""
        found = {}
        for end, layers in self._stretches(n_layers).items():
            found[f"label_{end}"] = layers
            for draw in range(self.random_draws):
                found[variants.draw_name(f"random_{end}", draw)] = layers
        return found

    def _positions(self, prompt: Prompt, seed: int) -> Mapping[str, Sequence[int]]:
        """The isolated positions of every variant in which all queries share them; a draw's are the same for every k."""
        others = [p for d in prompt.demonstrations for p in range(d.start, d.stop) if p not in _label_words(prompt)]
        count = min(len(prompt.anchors), len(others))
        found: dict[str, Sequence[int]] = {}
        for k in self.first_or_last_k:
            for where in ("first", "last"):
                found[f"label_{where}_{k}"] = prompt.anchors
                for draw in range(self.random_draws if self.control == "per_seed" else 0):
                    chosen = random.Random(f"{seed}/isolation/{draw}").sample(others, count)
                    found[variants.draw_name(f"random_{where}_{k}", draw)] = chosen
        return found

    def _positions_in(self, prompt: Prompt, seed: int, draw: int, layer: int) -> list[int]:
        """The random positions of one query in one layer (from 0), the same for every k."""
        words = _label_words(prompt)
        others = [p for p in range(prompt.length - 2) if p not in words]
        count = min(len(prompt.anchors), len(others))
        return random.Random(f"{seed}/isolation/{draw}/{prompt.query}/{layer}").sample(others, count)

    def _per_layer(
        self, lm: LanguageModel, halfway: Halfway, prompts: Sequence[Prompt], seed: int, batch_tokens: int
    ) -> dict[str, list[dict[str, Any]]]:
        """The scores of every random variant, of whole prompts: nothing is shared where each has positions of its own."""
        import torch

        from anchorflow.attention import Isolate, tapped
        from anchorflow.models import to_device
        from anchorflow.scoring import collate, next_word_logits, plan, scores

        n_layers = lm.shape.layers
        stretches = self._stretches(n_layers)
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for part in plan(prompts, batch_tokens):
            batch = collate(part, lm.device)
            with torch.no_grad(), halfway.noting({layers.start for layers in stretches.values()}):
                next_word_logits(lm, batch, label_words_only=True)
            for draw in range(self.random_draws):
                positions = {}
                for layer in range(n_layers):
                    drawn = [self._positions_in(prompt, seed, draw, layer) for prompt in part]
                    most = max(map(len, drawn))
                    filled = [[*row, *[0] * (most - len(row))] for row in drawn]
                    positions[layer] = to_device(filled, lm.device, torch.long)
                for end, layers in stretches.items():
                    tap = Isolate({layer: positions[layer] for layer in layers})
                    with (
                        torch.no_grad(),
                        halfway.beginning(layers.start),
                        tapped(lm.model, tap, only=batch.targets, start=layers.start),
                    ):
                        of_part = scores(next_word_logits(lm, batch), batch)
                    of_all = found.setdefault(variants.draw_name(f"random_{end}", draw), {})
                    of_all |= {prompt.query: score for prompt, score in zip(part, of_part, strict=True)}
        return {name: [of_all[prompt.query] for prompt in prompts] for name, of_all in found.items()}

    def _kept(self, lm: LanguageModel, work: Queries) -> set[int]:
        """The rows of the first queries that the model can read."""
        fitting = (p.query for p in work.prompts if lm.max_length is None or p.length <= lm.max_length)
        return set(islice(fitting, self.keep_examples))


def _label_words(prompt: Prompt) -> set[int]:
    return {position for d in prompt.demonstrations for position in d.label_word}
