"""The base of the experiments of "Label Words are Anchors": queries from the test split, after demonstrations."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

from anchorflow.data import Example, Task, texts
from anchorflow.errors import UserError
from anchorflow.experiments.base import QUERY, UnitKind
from anchorflow.prompts import Prompt, PromptBuilder
from anchorflow.results import Record
from anchorflow.settings import configurable, setting

if TYPE_CHECKING:
    from anchorflow.models import Shape


@dataclass(frozen=True, kw_only=True)
class Queries:
    """A prompt for every query. `seed` is the seed of random controls."""

    prompts: tuple[Prompt, ...]
    seed: int

    @property
    def units(self) -> tuple[Prompt, ...]:
        """The prompts, each of which gets one record."""
        return self.prompts


@configurable
class FewShot:
    """Queries from the test split, each after `shots_per_class` demonstrations of every class.

    Demonstrations come in rounds of one per class, each in shuffled order, so a larger number begins with the examples of a
    smaller one. Subclasses add `name`, `map` and `reduce`.
    """

    n_queries: int | None = 100
    """Number of test examples; null takes the whole split in file order."""
    shots_per_class: int = 1
    """Number of demonstrations per class in a prompt."""
    shards: int = setting(default=1, kind="run")
    """Number of tasks of a SLURM array that share the run."""

    name: ClassVar[str]
    unit: ClassVar[UnitKind] = QUERY
    version: ClassVar[str] = "3"
    needs: ClassVar[tuple[str, ...]] = ("causal",)
    """The properties of a model (see `models.PROPERTIES`) without which the results would be wrong."""
    fewest_shots: ClassVar[int] = 1
    gradients: ClassVar[bool] = False
    """Whether it runs backward passes, which take several times the memory."""
    demonstrations: ClassVar[Literal["per query", "per seed"]] = "per seed"
    """Whether demonstrations are drawn anew for every query, or once per seed (the papers' "common protocol")."""

    def __post_init__(self) -> None:
        if self.n_queries is not None and self.n_queries < 1:
            raise ValueError(f"n_queries is {self.n_queries}; allowed: 1 or more, or null for the whole split")
        if self.shots_per_class < self.fewest_shots:
            raise ValueError(f"shots_per_class is {self.shots_per_class}; allowed: {self.fewest_shots} or more")
        if self.shards < 1:
            raise ValueError(f"shards is {self.shards}; allowed: 1 or more")

    def check(self, task: Task, shape: Shape) -> None:
        """Raise UserError if there are too few examples, or if the model lacks the attention maps that are needed."""
        if "taps" in self.needs and not shape.attending:
            raise UserError(f"experiment={self.name} reads attention maps; {shape.name} has no attention layers.")
        task.draw_queries(self.n_queries, 0)
        task.draw_demonstrations(self.shots_per_class, "")

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> Queries:
        """One prompt per query. A test row with its own demonstrations keeps them, in their order."""
        return Queries(prompts=self.prompts(task, builder, seed), seed=seed)

    def prompts(self, task: Task, builder: PromptBuilder, seed: int) -> tuple[Prompt, ...]:
        """One prompt per query."""
        return tuple(builder.build(shown, query) for shown, query in self.draw(task, seed))

    def longest(self, task: Task, builder: PromptBuilder, seed: int, most: int) -> Sequence[Prompt]:
        """The prompts with the most characters, at most `most` of them."""

        def characters(pair: tuple[Sequence[Example], Example]) -> int:
            return sum(len(text or "") for example in (*pair[0], pair[1]) for text in texts(example))

        chosen = heapq.nlargest(most, self.draw(task, seed), key=characters)
        return [builder.build(shown, query) for shown, query in chosen]

    def draw(self, task: Task, seed: int) -> Iterator[tuple[Sequence[Example], Example]]:
        """Each query with its demonstrations, none of which has the texts of the query."""
        shared = cache(lambda: self.shared_demonstrations(task, seed, self.shots_per_class))
        for query in task.draw_queries(self.n_queries, seed):
            if query.demonstrations is not None:
                yield query.demonstrations, query
            elif self.demonstrations == "per query":
                key = f"{seed}/demonstrations/{query.row}"
                yield task.draw_demonstrations(self.shots_per_class, key, apart_from=(texts(query),)), query
            else:
                yield shared(), query

    def shared_demonstrations(
        self, task: Task, seed: int, per_class: int, setting: str = "experiment.shots_per_class"
    ) -> list[Example]:
        """The demonstrations that all queries of a seed share; none of them is a query."""
        asked = frozenset(texts(query) for query in task.draw_queries(self.n_queries, seed))
        return task.draw_demonstrations(per_class, f"{seed}/demonstrations", setting, apart_from=asked)

    def plan(self, units: Sequence[Prompt], batch_tokens: int) -> list[list[Prompt]]:
        """Batches of prompts of similar length; if demonstrations are drawn once per seed, with the same demonstrations."""
        from anchorflow.scoring import plan

        return plan(units, batch_tokens, shared=self.demonstrations == "per seed")

    def finish(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records, unchanged."""
        return records

    def refuse_own_demonstrations(self, task: Task, why: str) -> None:
        """Raise UserError if a test row has its own demonstrations; `why` explains that all queries must share them."""
        if any(example.demonstrations is not None for example in task.test):
            raise UserError(
                f"experiment={self.name} {why} demonstrations that all queries share; rows of {task.name} have their own."
            )
