"""Vanilla in-context learning: accuracy, macro F1, calibration (Label Words are Anchors, table 1, baselines)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from anchorflow.experiments import variants
from anchorflow.experiments.few_shot import FewShot, Queries
from anchorflow.prompts import Prompt
from anchorflow.results import Curve, Record, Result, Table, metrics, statistics
from anchorflow.settings import configurable

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel


@configurable
class Classification(FewShot):
    """Predict each query's label after demonstrations that are drawn once per seed; with 0 shots there are none."""

    name: ClassVar[str] = "classification"
    fewest_shots: ClassVar[int] = 0

    def map(
        self, lm: LanguageModel, work: Queries, batches: Iterable[Sequence[Prompt]], folder: Path, batch_tokens: int
    ) -> Iterator[list[Record]]:
        """Records with the label words' probabilities and the most probable next words."""
        import torch

        from anchorflow.scoring import after_demonstrations, next_word_logits, scores

        for prompts, batch, context in after_demonstrations(lm, batches):
            with torch.no_grad():
                found = scores(next_word_logits(lm, batch, context), batch)
            yield [{**p.head, "variants": {"full": s}} for p, s in zip(prompts, found, strict=True)]

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """`accuracy`, `macro_f1`, `ece` (10 bins), the confusion matrix and the reliability curve."""
        truth, probs = variants.truth(records), variants.probs(records)
        accuracy = metrics.accuracy(truth, probs)
        bins = metrics.calibration_bins(truth, probs)
        centres = [(b + 0.5) / len(bins) for b in range(len(bins))]
        return Result(
            metrics={
                "accuracy": accuracy,
                "macro_f1": metrics.macro_f1(truth, probs),
                "ece": metrics.expected_calibration_error(truth, probs),
            },
            stderr={"accuracy": statistics.proportion_stderr(accuracy, len(records))},
            curves={
                "reliability": Curve("confidence", centres, bins[:, 2].tolist()),
                "confidence_share": Curve("confidence", centres, bins[:, 0].tolist()),
            },
            tables={"confusion": Table(labels, labels, metrics.confusion(truth, probs).tolist())},
        )
