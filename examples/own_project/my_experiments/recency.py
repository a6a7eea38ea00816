"""Does the prediction repeat the label of a late demonstration?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from anchorflow.experiments import FewShot, Queries
from anchorflow.prompts import Prompt
from anchorflow.results import Curve, Record, Result
from anchorflow.settings import configurable

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel


@configurable
class Recency(FewShot):
    """How often the prediction is the label of the last demonstration, of the one before it, and so on."""

    name: ClassVar[str] = "recency"
    view: ClassVar[str] = "my_experiments.recency_view"
    demonstrations: ClassVar[Literal["per query", "per seed"]] = "per query"

    at_most: int = 4
    """The number of last demonstrations to look at."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.at_most < 1:
            raise ValueError(f"at_most is {self.at_most}; allowed: 1 or more")

    def map(
        self, lm: LanguageModel, work: Queries, batches: Iterable[Sequence[Prompt]], folder: Path, batch_tokens: int
    ) -> Iterator[list[Record]]:
        """Records with the classes that were shown, in order."""
        from anchorflow.scoring import predict

        for prompts in batches:
            yield [
                {**prompt.head, "variants": {"full": score}, "shown": [d.label for d in prompt.demonstrations]}
                for prompt, score in zip(prompts, predict(lm, prompts), strict=True)
            ]

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """The curve `repeats` over how far back the demonstration is (1 is the last)."""
        predicted = [max(range(len(labels)), key=record["variants"]["full"]["probs"].__getitem__) for record in records]
        back = range(1, min(self.at_most, *(len(record["shown"]) for record in records)) + 1)
        repeats = [
            sum(record["shown"][-k] == label for record, label in zip(records, predicted, strict=True)) / len(records)
            for k in back
        ]
        right = sum(record["label"] == label for record, label in zip(records, predicted, strict=True))
        return Result(
            metrics={"accuracy": right / len(records), "repeats_last": repeats[0]},
            curves={"repeats": Curve("demonstrations_back", back, repeats)},
        )
