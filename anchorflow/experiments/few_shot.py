"""What every experiment has, and what those of "Label Words are Anchors" share: queries with demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from anchorflow.data import Example, Task
from anchorflow.prompts import Prompt, PromptBuilder
from anchorflow.results import Record, Result

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel


class Experiment(Protocol):
    """Maps prompts to records (touching the model) and reduces records to a Result (touching nothing)."""

    name: ClassVar[str]

    def prompts(self, task: Task, builder: PromptBuilder, seed: int) -> Iterator[Prompt]:
        """The work, one prompt a unit."""
        ...

    def map(self, lm: LanguageModel, batches: Iterable[Sequence[Prompt]]) -> Iterator[list[Record]]:
        """For each batch of prompts its records, in the same order."""
        ...

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """A pure function of the records (those of skipped prompts left out); `labels` names the classes."""
        ...


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Queries from the test split, each after `shots_per_class` demonstrations of every class, in shuffled order."""

    n_queries: int | None = 100
    shots_per_class: int = 1

    fewest_shots: ClassVar[int] = 0
    demonstrations: ClassVar[Literal["per query", "per seed"]] = "per seed"
    """Drawn anew for every query, or once per seed (the papers' "common protocol")."""

    def __post_init__(self) -> None:
        if self.n_queries is not None and self.n_queries < 1:
            raise ValueError(f"n_queries is {self.n_queries}; allowed: 1 or more, or null for the whole split")
        if self.shots_per_class < self.fewest_shots:
            raise ValueError(f"shots_per_class is {self.shots_per_class}; allowed: {self.fewest_shots} or more")

    def prompts(self, task: Task, builder: PromptBuilder, seed: int) -> Iterator[Prompt]:
        """One prompt per query. A test row that brings its own demonstrations keeps them, in their order."""
        shared: list[Example] | None = None
        for query in task.draw_queries(self.n_queries, seed):
            if query.demonstrations is not None:
                demonstrations: Sequence[Example] = query.demonstrations
            elif self.demonstrations == "per query":
                demonstrations = task.draw_demonstrations(self.shots_per_class, f"{seed}/demonstrations/{query.row}")
            else:
                shared = shared or task.draw_demonstrations(self.shots_per_class, f"{seed}/demonstrations")
                demonstrations = shared
            yield builder.build(demonstrations, query)
