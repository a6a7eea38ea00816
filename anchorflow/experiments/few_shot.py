"""What every experiment has, and what those of "Label Words are Anchors" share: queries with demonstrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from anchorflow.data import Example, Task
from anchorflow.errors import UserError
from anchorflow.prompts import Prompt, PromptBuilder, Repetition, Series
from anchorflow.results import Record, Result

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel, Shape


class Unit(Protocol):
    """What a record is made of: a prompt, or a repetition with a prompt for each of its regimes."""

    @property
    def number(self) -> int:
        """What tells it from the other units."""
        ...

    @property
    def length(self) -> int:
        """Tokens of the longest prompt."""
        ...

    @property
    def head(self) -> dict[str, Any]:
        """What its record begins with: its number, under the experiment's `key`, and its true labels."""
        ...


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run has to do: a record for each of `prompts` or of `repetitions`, and what else that takes.

    `training` is what re-weighting learns from; `text_anchors` are the prompts of the same queries (by row) after
    demonstrations without their texts; `pieces` are the tokens, as text, of the queries (by row) whose flows are kept;
    `seed` is what random controls are drawn from. `frequencies` are those of the
    classes in the train split; `content_free` are prompts without content, by regime, to calibrate with. `batch_tokens`
    is for passes that an experiment divides itself.
    """

    seed: int
    prompts: tuple[Prompt, ...] = ()
    repetitions: tuple[Repetition, ...] = ()
    training: tuple[Prompt, ...] = ()
    text_anchors: Mapping[int, Prompt] = field(default_factory=dict)
    pieces: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    frequencies: tuple[float, ...] = ()
    content_free: Mapping[str, tuple[Series, ...]] = field(default_factory=dict)
    batch_tokens: int = 1024

    @property
    def units(self) -> Sequence[Unit]:
        """What gets a record each."""
        return self.repetitions or self.prompts


class Experiment(Protocol):
    """Maps prompts to records (touching the model) and reduces records to a Result (touching nothing)."""

    name: ClassVar[str]
    key: ClassVar[Literal["query", "repetition"]]
    """The field that holds the number of a record's unit."""

    def fingerprint(self) -> dict[str, Any]:
        """The settings that can change a number; files by their content."""
        ...

    def check(self, task: Task, shape: Shape) -> None:
        """UserError for settings that this data or a model of this shape cannot satisfy; nothing is loaded yet."""
        ...

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> Work:
        """The work: its units, and what else they take."""
        ...

    def plan(self, units: Sequence[Any], batch_tokens: int) -> Sequence[Sequence[Any]]:
        """Batches of these units of the work, which depend on nothing but them and the budget of padded tokens."""
        ...

    def map(
        self, lm: LanguageModel, work: Work, batches: Iterable[Sequence[Any]], folder: Path
    ) -> Iterator[list[Record]]:
        """For each batch of the work's units its records, in the same order. `folder` takes what else is to be kept."""
        ...

    def finish(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records with what can only be known when all are there."""
        ...

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """A pure function of the records (those of skipped units left out); `labels` names the classes."""
        ...


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Queries from the test split, each after `shots_per_class` demonstrations of every class, in shuffled order."""

    n_queries: int | None = 100
    shots_per_class: int = 1
    shards: int = 1

    name: ClassVar[str]
    key: ClassVar[Literal["query", "repetition"]] = "query"
    fewest_shots: ClassVar[int] = 1
    demonstrations: ClassVar[Literal["per query", "per seed"]] = "per seed"
    """Drawn anew for every query, or once per seed (the papers' "common protocol")."""

    def __post_init__(self) -> None:
        if self.n_queries is not None and self.n_queries < 1:
            raise ValueError(f"n_queries is {self.n_queries}; allowed: 1 or more, or null for the whole split")
        if self.shots_per_class < self.fewest_shots:
            raise ValueError(f"shots_per_class is {self.shots_per_class}; allowed: {self.fewest_shots} or more")
        if self.shards < 1:
            raise ValueError(f"shards is {self.shards}; allowed: 1 or more")

    def fingerprint(self) -> dict[str, Any]:
        """Every setting."""
        return {"_target_": type(self).__name__, **asdict(self)}

    def check(self, task: Task, shape: Shape) -> None:
        """UserError if there are fewer examples than asked for."""
        task.draw_queries(self.n_queries, 0)
        task.draw_demonstrations(self.shots_per_class, "")

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> Work:
        """One prompt per query. A test row that brings its own demonstrations keeps them, in their order."""
        return Work(prompts=tuple(builder.build(shown, query) for shown, query in self.draw(task, seed)), seed=seed)

    def draw(self, task: Task, seed: int) -> Iterator[tuple[Sequence[Example], Example]]:
        """Each query with its demonstrations."""
        for query in task.draw_queries(self.n_queries, seed):
            if query.demonstrations is not None:
                yield query.demonstrations, query
            else:
                row = f"/{query.row}" if self.demonstrations == "per query" else ""
                yield task.draw_demonstrations(self.shots_per_class, f"{seed}/demonstrations{row}"), query

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
