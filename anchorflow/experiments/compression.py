"""Demonstrations compressed to their anchors (Label Words are Anchors, sec. 3.2, tables 2, 3 and 6)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from anchorflow.data import Task
from anchorflow.experiments import variants
from anchorflow.experiments.few_shot import FewShot, Queries
from anchorflow.prompts import Prompt, PromptBuilder, keeping_apart
from anchorflow.results import Record, Result, metrics
from anchorflow.settings import configurable

if TYPE_CHECKING:
    from anchorflow.attention import Context
    from anchorflow.models import LanguageModel
    from anchorflow.scoring import Batch

VARIANTS = ("full", "text_anchor", "hidden_anchor", "hidden_random", "hidden_random_top")
TIMED = ("speedup", "speedup_over_cache")
"""Metrics that vary between repetitions of the same run."""
FILE = "hidden_anchor.safetensors"
TIMED_ROUNDS = 3
TIMED_QUERIES = 5


@dataclass(frozen=True, kw_only=True)
class CompressionWork(Queries):
    """Also `text_anchors`: the prompts of the same queries (by row) after demonstrations without their texts.

    `instead` lists settings with which the tokenizer merges no character of the template with a text, if it does so now.
    """

    text_anchors: Mapping[int, Prompt]
    instead: Sequence[str] = ()


@configurable
class Compression(FewShot):
    """How well the model predicts if the query sees only the anchors of its demonstrations.

    `hidden_anchor` keeps the keys and values of formatting and label words from the full prompt; `text_anchor` prefills only
    those words; `hidden_random` keeps random earlier positions instead of label words, in `random_sets` draws.
    `positions` of the query continue those of the full prompt, or `restart` at 0.
    """

    name: ClassVar[str] = "compression"
    needs: ClassVar[tuple[str, ...]] = ("causal", "context", "gaps")
    positions: Literal["original", "restart"] = "original"
    """Positions of the query: continue those of the full prompt, or restart at 0."""
    random_sets: int = 20
    """Number of draws of random positions to keep instead of the label words."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.random_sets < 1:
            raise ValueError(f"random_sets is {self.random_sets}; allowed: 1 or more")

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> CompressionWork:
        """Also the prompts of `text_anchor`, whose demonstrations have no texts."""
        pair = "" if task.template.pair else None
        bare = {
            query.row: builder.build([replace(d, text="", text_pair=pair) for d in shown], query)
            for shown, query in self.draw(task, seed)
        }
        prompts = self.prompts(task, builder, seed)
        joined = (
            of_query
            for prompt, of_query in zip(prompts, self.draw(task, seed), strict=True)
            if any(d.merged for d in prompt.demonstrations)
        )
        first = next(joined, None)
        instead = keeping_apart(builder, *first) if first else ()
        return CompressionWork(prompts=prompts, seed=seed, text_anchors=bare, instead=instead)

    def map(
        self,
        lm: LanguageModel,
        work: CompressionWork,
        batches: Iterable[Sequence[Prompt]],
        folder: Path,
        batch_tokens: int,
    ) -> Iterator[list[Record]]:
        """Records with every variant except `hidden_random_top`, and the number of positions that each keeps.

        One record also has the `seconds` per query of each variant, measured on a sample of short and long prompts.
        """
        import torch

        from anchorflow.attention import read
        from anchorflow.scoring import Contexts, collate, next_word_logits, scores

        def make(prompt: Prompt) -> tuple[dict[str, Context], dict[str, Context]]:
            """The kept context of each variant, and the same followed by the template's words before the query."""
            bare = work.text_anchors[prompt.query]
            kept = self._kept(lm, prompt, bare, work.seed)
            lead = {name: bare if name == "text_anchor" else prompt for name in kept}
            return kept, {
                name: read(lm.model, p.shared[len(p.context) :], lm.device, after=kept[name])
                for name, p in lead.items()
            }

        contexts = Contexts(make)
        first = True
        for prompts in batches:
            bare = [work.text_anchors[p.query] for p in prompts]
            batch = collate(prompts, lm.device, prompts[0].shared)
            kept, read_contexts = contexts(prompts[0])
            found = {}
            for name, context in read_contexts.items():
                asked = collate(bare, lm.device, bare[0].shared) if name == "text_anchor" else batch
                with torch.no_grad():
                    found[name] = scores(next_word_logits(lm, asked, context), asked)
            records: list[Record] = [
                {
                    **p.head,
                    "variants": {name: s[i] for name, s in found.items()},
                    "context": {
                        name: {"tokens": len(kept[name]), "bytes": kept[name].bytes}
                        for name in VARIANTS
                        if name in kept
                    },
                }
                for i, p in enumerate(prompts)
            ]
            for record, prompt in zip(records, prompts, strict=True):
                merged = [d.merged for d in prompt.demonstrations]
                if any(merged):
                    example = lm.tokenizer.decode([prompt.ids[next(p for of in merged for p in of)]])
                    counts = {"demonstrations": sum(map(bool, merged)), "of": len(merged)}
                    record["merged"] = {**counts, "example": example, "instead": list(work.instead)}
            if first:
                first = False
                kept["hidden_anchor"].save(folder / FILE)
                timed = {name: read_contexts[name] for name in VARIANTS if name in kept}
                sample = _short_and_long(work.prompts, prompts[0].shared, lm.max_length)
                bare = [work.text_anchors[p.query] for p in sample]
                records[0]["seconds"] = _time(lm, sample, bare, timed, batch_tokens)
            yield records

    def finish(self, records: Sequence[Record]) -> Sequence[Record]:
        """Adds the variant `hidden_random_top`: the random set with the best label loyalty."""
        full = variants.probs(records)
        names = [variants.draw_name("hidden_random", draw) for draw in range(self.random_sets)]
        loyalty = [metrics.label_agreement(variants.probs(records, name), full).mean() for name in names]
        best = names[int(np.argmax(loyalty))]
        return [
            {**record, "variants": {**record["variants"], "hidden_random_top": record["variants"][best]}}
            for record in records
        ]

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """Accuracy, loyalty and size of every variant, and its speed-up over the full prompt without and with a KV cache."""
        values, stderr = {}, {}
        timed = [record["seconds"] for record in records if "seconds" in record]
        for name in VARIANTS:
            found = variants.measure(records, name, self.random_sets if name == "hidden_random" else 1)
            for key, (mean, error) in found.items():
                values[f"{name}/{key}"], stderr[f"{name}/{key}"] = mean, error
            kept = name.removesuffix("_top")
            tokens = np.mean([record["context"][kept]["tokens"] for record in records])
            values[f"{name}/kept_tokens"] = float(tokens)
            values[f"{name}/kept_share"] = float(tokens / np.mean([r["context"]["full"]["tokens"] for r in records]))
            values[f"{name}/cache_bytes"] = float(np.mean([record["context"][kept]["bytes"] for record in records]))
            if timed:
                values[f"{name}/speedup"] = median(seconds["full_uncached"] / seconds[kept] for seconds in timed)
                values[f"{name}/speedup_over_cache"] = median(seconds["full"] / seconds[kept] for seconds in timed)
        # A position that is not a BOS, formatting or a label word is text.
        values["full/text_tokens"] = values["full/kept_tokens"] - values["hidden_anchor/kept_tokens"]
        notes = [_joined(merged)] if (merged := [record["merged"] for record in records if "merged" in record]) else []
        if values["hidden_random/kept_tokens"] < values["hidden_anchor/kept_tokens"]:
            notes.append("hidden_random keeps fewer positions: a label word has more tokens than precede it")
        return Result(metrics=values, stderr=stderr, notes=notes)

    def _kept(self, lm: LanguageModel, prompt: Prompt, bare: Prompt, seed: int) -> dict[str, Context]:
        """The context of the demonstrations that each variant keeps."""
        from anchorflow.attention import read

        full = read(lm.model, prompt.context, lm.device)
        found = {"full": full, "text_anchor": read(lm.model, bare.context, lm.device)}
        for name, positions in self.positions_kept(prompt, seed).items():
            found[name] = full.select(positions, 0 if self.positions == "restart" else positions[-1] + 1)
        return found

    def positions_kept(self, prompt: Prompt, seed: int) -> dict[str, list[int]]:
        """The positions of the context that `hidden_anchor` and every random set keep."""
        demonstrations = prompt.demonstrations
        # Positions before the first demonstration (a BOS) belong to no text and are kept.
        formatting = [*range(demonstrations[0].start), *(p for d in demonstrations for p in d.formatting)]
        words = {"hidden_anchor": [p for d in demonstrations for p in d.label_word]}
        for draw in range(self.random_sets):
            generator = random.Random(f"{seed}/compression/{draw}")
            swapped: list[int] = []
            for d in demonstrations:
                earlier = [p for p in range(d.start, d.anchor) if p not in d.formatting]
                swapped += generator.sample(earlier, min(len(d.label_word), len(earlier)))
            words[variants.draw_name("hidden_random", draw)] = swapped
        return {name: sorted({*formatting, *chosen}) for name, chosen in words.items()}


def _joined(merged: Sequence[Mapping[str, Any]]) -> str:
    """A note on what `hidden_anchor` loses if the tokenizer merges characters of the template with a text."""
    counts = {(found["demonstrations"], found["of"]) for found in merged}
    several, of = (
        counts.pop() if len(counts) == 1 else (sum(f["demonstrations"] for f in merged), sum(f["of"] for f in merged))
    )
    ways = " or ".join(merged[0]["instead"])
    return (
        f"in {several} of {of} demonstrations the tokenizer merges a character of the template with the text (a token such as "
        f"{merged[0]['example']!r}), so that hidden_anchor drops it" + (f"; kept apart with {ways}" if ways else "")
    )


def _short_and_long(prompts: Sequence[Prompt], shared: tuple[int, ...], limit: int | None) -> list[Prompt]:
    """A few of the prompts that begin with `shared` and fit the context, evenly spaced in the order of their lengths."""
    fitting = (p for p in prompts if p.shared == shared and (limit is None or p.length <= limit))
    in_order = sorted(fitting, key=lambda p: (p.length, p.query))
    count = min(TIMED_QUERIES, len(in_order))
    return [in_order[(2 * i + 1) * len(in_order) // (2 * count)] for i in range(count)]


def _time(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    bare: Sequence[Prompt],
    contexts: dict[str, Context],
    batch_tokens: int,
) -> dict[str, float]:
    """Seconds per query, for the full prompt without cache and for every context; medians over interleaved rounds."""
    import torch

    from anchorflow.scoring import collate, next_word_logits, plan

    def batches(of: Sequence[Prompt], shared: bool) -> list[Batch]:
        return [collate(part, lm.device, part[0].shared if shared else ()) for part in plan(of, batch_tokens, shared)]

    ways: dict[str, tuple[list[Batch], Context | None]] = {"full_uncached": (batches(prompts, shared=False), None)}
    for name, context in contexts.items():
        ways[name] = (batches(bare if name == "text_anchor" else prompts, shared=True), context)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    way: Context | None
    for _ in range(1 + TIMED_ROUNDS):  # the first round is a warm-up
        for name, (asked, way) in ways.items():
            started = time.perf_counter()
            for batch in asked:
                with torch.no_grad():
                    next_word_logits(lm, batch, way)[0, 0].item()  # waits for the device
            seconds[name].append(time.perf_counter() - started)
    return {name: median(times[1:]) / len(prompts) for name, times in seconds.items()}
