"""What the experiments of "Label Words are Anchors" share: queries from the test split, after demonstrations."""

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
    """A prompt for every query. `seed` is what random controls are drawn from."""

    prompts: tuple[Prompt, ...]
    seed: int

    @property
    def units(self) -> tuple[Prompt, ...]:
        """What gets a record each."""
        return self.prompts


@configurable
class FewShot:
    """Queries from the test split, each after `shots_per_class` demonstrations of every class.

    Demonstrations come in rounds of one per class, each in shuffled order: more of them begin with those of fewer. This is
    the base of an experiment on queries: it lacks `name`, `map` and `reduce`.
    """

    n_queries: int | None = 100
    """Test examples to ask; null takes the whole split in file order."""
    shots_per_class: int = 1
    """Demonstrations of each class in a prompt."""
    shards: int = setting(default=1, kind="run")
    """Tasks of a sweep's array that share the work."""

    name: ClassVar[str]
    unit: ClassVar[UnitKind] = QUERY
    version: ClassVar[str] = "3"
    needs: ClassVar[tuple[str, ...]] = ("causal",)
    """The properties of a model (see `models.PROPERTIES`) without which its numbers would be wrong."""
    fewest_shots: ClassVar[int] = 1
    gradients: ClassVar[bool] = False
    """Whether its passes go back through the model, too, which takes several times the memory."""
    demonstrations: ClassVar[Literal["per query", "per seed"]] = "per seed"
    """Drawn anew for every query, or once per seed (the papers' "common protocol")."""

    def __post_init__(self) -> None:
        if self.n_queries is not None and self.n_queries < 1:
            raise ValueError(f"n_queries is {self.n_queries}; allowed: 1 or more, or null for the whole split")
        if self.shots_per_class < self.fewest_shots:
            raise ValueError(f"shots_per_class is {self.shots_per_class}; allowed: {self.fewest_shots} or more")
        if self.shards < 1:
            raise ValueError(f"shards is {self.shards}; allowed: 1 or more")

    def check(self, task: Task, shape: Shape) -> None:
        """UserError if there are fewer examples than asked for, or for a model without the attention that is to be read."""
        if "taps" in self.needs and not shape.attending:
            raise UserError(f"experiment={self.name} reads attention maps; {shape.name} has no attention layers.")
        task.draw_queries(self.n_queries, 0)
        task.draw_demonstrations(self.shots_per_class, "")

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> Queries:
        """One prompt per query. A test row that brings its own demonstrations keeps them, in their order."""
        return Queries(prompts=self.prompts(task, builder, seed), seed=seed)

    def prompts(self, task: Task, builder: PromptBuilder, seed: int) -> tuple[Prompt, ...]:
        """One prompt per query."""
        return tuple(builder.build(shown, query) for shown, query in self.draw(task, seed))

    def longest(self, task: Task, builder: PromptBuilder, seed: int, most: int) -> Sequence[Prompt]:
        """The prompts that have the most characters, at most this many."""

        def characters(pair: tuple[Sequence[Example], Example]) -> int:
            return sum(len(text or "") for example in (*pair[0], pair[1]) for text in texts(example))

        chosen = heapq.nlargest(most, self.draw(task, seed), key=characters)
        return [builder.build(shown, query) for shown, query in chosen]

    def draw(self, task: Task, seed: int) -> Iterator[tuple[Sequence[Example], Example]]:
        """Each query with its demonstrations, of which none has its texts."""
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
        """The demonstrations that all queries of a seed have, none of them a query."""
        asked = frozenset(texts(query) for query in task.draw_queries(self.n_queries, seed))
        return task.draw_demonstrations(per_class, f"{seed}/demonstrations", setting, apart_from=asked)

    def plan(self, units: Sequence[Prompt], batch_tokens: int) -> list[list[Prompt]]:
        """Prompts of similar length; with demonstrations drawn once per seed, of the same demonstrations."""
        from anchorflow.scoring import plan

        return plan(units, batch_tokens, shared=self.demonstrations == "per seed")

    def finish(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records as they are."""
        return records

    def refuse_own_demonstrations(self, task: Task, why: str) -> None:
        """UserError where a test row brings demonstrations, and `why` all queries must share them."""
        if any(example.demonstrations is not None for example in task.test):
            raise UserError(
                f"experiment={self.name} {why} demonstrations that all queries share; rows of {task.name} bring their own."
            )
