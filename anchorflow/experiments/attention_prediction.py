"""Does attention to label words predict the answer? (Label Words are Anchors, sec. 2.3, fig. 5)"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from anchorflow.experiments import variants
from anchorflow.experiments.few_shot import FewShot, Queries
from anchorflow.prompts import Prompt
from anchorflow.results import Curve, Record, Result, metrics, statistics
from anchorflow.settings import configurable

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel


@configurable
class AttentionPrediction(FewShot):
    """a[l,c] = Σ_h Σ_{k: class(k)=c} A[l,h](q, p_k) as a score for the model's own prediction: AUCROC_l and R_l."""

    name: ClassVar[str] = "attention_prediction"
    needs: ClassVar[tuple[str, ...]] = ("causal", "taps")

    def map(
        self, lm: LanguageModel, work: Queries, batches: Iterable[Sequence[Prompt]], folder: Path, batch_tokens: int
    ) -> Iterator[list[Record]]:
        """Records with `label_attention`, layer × class."""
        import torch

        from anchorflow.attention import LabelAttention, tapped
        from anchorflow.scoring import after_demonstrations, next_word_logits, only, scores

        for prompts, batch, context in after_demonstrations(lm, batches):
            attention = LabelAttention(batch.anchors, batch.targets)
            with torch.no_grad(), tapped(lm.model, attention, only=only(lm, batch)):
                found = scores(next_word_logits(lm, batch, context), batch)
            to_anchors = attention.read().numpy()
            yield [
                {
                    **p.head,
                    **variants.of_layers(lm.shape),
                    "variants": {"full": s},
                    "label_attention": _by_class(p, to_anchors[:, i]).tolist(),
                }
                for i, (p, s) in enumerate(zip(prompts, found, strict=True))
            ]

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """Curves `AUCROC` and `R` over the layers; undefined values are nan, with a note that gives the reason."""
        probs = variants.probs(records)
        accuracy = metrics.accuracy(variants.truth(records), probs)
        predicted = probs.argmax(axis=1)
        attention = np.array([record["label_attention"] for record in records])  # query, layer, class
        areas = [metrics.auc_of_prediction(predicted, attention[:, layer]) for layer in range(attention.shape[1])]
        influence = np.array([metrics.auc_influence(predicted, attention[:, layer]) for layer in range(len(areas))])
        whole, its_stderr = sum(areas) - 0.5 * len(areas), float(np.linalg.norm(influence.sum(axis=0)))
        never = [label for c, label in enumerate(labels) if c not in predicted]
        notes = variants.layer_notes(records)
        if len(labels) - len(never) == 1:
            only = labels[int(predicted[0])]
            notes.append(f"AUCROC and R are undefined: the model predicts {only!r} for all {len(records)} queries")
        elif never:
            notes.append(f"left out because the model never predicts them: {', '.join(never)}")
        if metrics.too_small(whole, its_stderr):
            notes.append(metrics.UNDEFINED_R.format(whole, its_stderr))
        layers = variants.layers(records, len(areas))
        return Result(
            metrics={"accuracy": accuracy},
            stderr={"accuracy": statistics.proportion_stderr(accuracy, len(records))},
            curves={
                "AUCROC": Curve("layer", layers, areas, np.linalg.norm(influence, axis=1).tolist()),
                "R": Curve("layer", layers, metrics.cumulative_contribution(areas, its_stderr)),
            },
            notes=notes,
        )


def _by_class(prompt: Prompt, attention: np.ndarray) -> np.ndarray:
    """[layer, class] from [layer, anchor], without padding."""
    found = np.zeros((len(attention), len(prompt.label_tokens)))
    for k, demonstration in enumerate(prompt.demonstrations):
        found[:, demonstration.label] += attention[:, k]
    return found
