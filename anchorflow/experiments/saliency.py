"""Information flow between the words, the label words and the target (Label Words are Anchors, sec. 2.1, fig. 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import variants
from anchorflow.experiments.few_shot import FewShot, Queries
from anchorflow.experiments.flows import FLOWS, FlowExample
from anchorflow.prompts import Prompt, PromptBuilder
from anchorflow.results import Curve, Record, Result, metrics, statistics
from anchorflow.settings import configurable, setting

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel


@dataclass(frozen=True, kw_only=True)
class SaliencyWork(Queries):
    """Also `pieces`: the tokens, as text, of the queries (by row) whose strongest flows are saved."""

    pieces: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


@configurable
class Saliency(FewShot):
    """I = |Σ_h A ⊙ ∂L/∂A| of every layer, averaged over words → label word, label word → target, word → word.

    With `heads: abs_then_sum`, I = Σ_h |A ⊙ ∂L/∂A| (the paper's footnote 3). L is the cross-entropy over the label words at
    the target. Demonstrations are drawn anew for every query.
    """

    name: ClassVar[str] = "saliency"
    needs: ClassVar[tuple[str, ...]] = ("causal", "taps", "gradients")
    gradients: ClassVar[bool] = True
    demonstrations: ClassVar[Literal["per query", "per seed"]] = "per query"
    heads: Literal["sum_then_abs", "abs_then_sum"] = "sum_then_abs"
    """Sum heads before taking the absolute value, as in the paper's figures, or after it."""
    backward_dtype: Literal["float32", "tf32"] = "float32"
    """Precision of float32 products in the backward pass; tf32 rounds their inputs to 10 bits, on GPUs that have it."""
    keep_examples: int = setting(default=3, kind="shown")
    """Number of queries whose strongest flows are saved, for the page of `anchorflow report` and for `anchorflow show`."""
    keep_heads: bool = setting(default=False, kind="shown")
    """Also save these flows head by head: layers × heads × 200 numbers per query."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_examples < 0:
            raise ValueError(f"keep_examples is {self.keep_examples}; allowed: 0 (none) or more")

    def unused(self) -> tuple[str, ...]:
        """Newer settings at their defaults, which leave the numbers and the directory of a run as they were."""
        return ("backward_dtype",) if self.backward_dtype == "float32" else ()

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> SaliencyWork:
        """One prompt per query, and the pieces of the first prompts that fit the context."""
        prompts = self.prompts(task, builder, seed)
        for prompt in prompts:
            words, others = sum(prompt.anchors), set(range(prompt.target)) - set(prompt.anchors)
            if not words or not others:
                raise UserError(
                    f"experiment=saliency needs words before the label words; the prompt of test row {prompt.query} has none."
                )
        drawn = zip(prompts, self.draw(task, seed), strict=True)
        fitting = (of_query for prompt, of_query in drawn if builder.limit.fits(prompt))
        first = islice(fitting, min(self.keep_examples, len(prompts)))
        pieces = {query.row: builder.pieces(shown, query) for shown, query in first}
        return SaliencyWork(prompts=prompts, seed=seed, pieces=pieces)

    def map(
        self,
        lm: LanguageModel,
        work: SaliencyWork,
        batches: Iterable[Sequence[Prompt]],
        folder: Path,
        batch_tokens: int,
    ) -> Iterator[list[Record]]:
        """Records with the prediction and S_wp, S_pq and S_ww as lists over layers; saves the strongest flows in `folder`."""
        import torch
        from torch.nn.functional import nll_loss

        from anchorflow.attention import SaliencyFlow, tapped
        from anchorflow.scoring import collate, label_log_probabilities, next_word_logits, only, scores

        for prompts in batches:
            batch = collate(prompts, lm.device)
            keep = [i for i, prompt in enumerate(prompts) if prompt.query in work.pieces]
            flow = SaliencyFlow(
                lm.shape,
                batch.anchors,
                batch.is_anchor,
                batch.targets,
                keep,
                tf32=self.backward_dtype == "tf32",
                per_head=self.heads == "abs_then_sum",
                cut="cut" in lm.can,
            )
            with torch.enable_grad(), tapped(lm.model, flow, only=only(lm, batch)):
                logits = next_word_logits(lm, batch)
                log_probabilities = label_log_probabilities(logits, batch)
                loss = nll_loss(log_probabilities, batch.labels.to(logits.device), reduction="sum")
                flows = flow.gather(loss).permute(1, 2, 0).tolist()  # prompt, kind, layer
            found = scores(logits, batch)
            for i in keep:  # before the records: a written record means that its query is complete
                strongest = flow.strongest(i)
                kept = FlowExample(
                    query=prompts[i].query,
                    label=prompts[i].label,
                    probs=found[i]["probs"],
                    tokens=work.pieces[prompts[i].query],
                    demonstrations=prompts[i].demonstrations,
                    strongest=[layer.flows for layer in strongest],
                    totals=[layer.total for layer in strongest],
                    signs=[[-1 if sum(parts) < 0 else 1 for parts in layer.heads] for layer in strongest],
                    heads=[layer.heads for layer in strongest] if self.keep_heads else (),
                    means=dict(zip(FLOWS, flows[i], strict=True)),
                    numbers=variants.of_layers(lm.shape).get("layers", ()),
                )
                kept.write(folder)
            yield [
                {**p.head, **variants.of_layers(lm.shape), "variants": {"full": s}, **dict(zip(FLOWS, f, strict=True))}
                for p, s, f in zip(prompts, found, flows, strict=True)
            ]

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """Mean flows per layer with standard errors, and their shares of the sum, taken after the mean."""
        accuracy = metrics.accuracy(variants.truth(records), variants.probs(records))
        values = np.array([[record[flow] for flow in FLOWS] for record in records], dtype=float)  # query, kind, layer
        mean, stderr = statistics.mean_and_stderr(values)
        layers = variants.layers(records, values.shape[-1])
        total = mean.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = mean / total
            # Linear propagation through S / total, with the covariances of the three means.
            centred = (values - shares * values.sum(axis=1, keepdims=True)) / total
        share_stderr = statistics.mean_and_stderr(centred)[1]
        curves = {flow: Curve("layer", layers, mean[i], stderr[i]) for i, flow in enumerate(FLOWS)}
        curves |= {f"{flow}_share": Curve("layer", layers, shares[i], share_stderr[i]) for i, flow in enumerate(FLOWS)}
        return Result(
            metrics={"accuracy": accuracy},
            stderr={"accuracy": statistics.proportion_stderr(accuracy, len(records))},
            curves=curves,
            notes=variants.layer_notes(records),
        )
