"""What every experiment has: it maps prompts to records (touching the model) and reduces records to a Result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from anchorflow.data import Task
from anchorflow.prompts import PromptBuilder
from anchorflow.results import Record, Result

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel, Shape


@dataclass(frozen=True)
class UnitKind:
    """What an experiment makes a record of."""

    key: str
    """The field of a record that holds the unit's number ("query")."""
    several: str
    """Its plural, as in the counts of a result ("queries")."""
    place: str
    """What error messages call one ("test row")."""
    variant: str = "variant"
    """What the predictions of one unit are told apart by."""
    shared: bool = False
    """Whether runs of several seeds have most of their units in common, so that their spread says nothing."""


QUERY = UnitKind("query", "queries", "test row")
REPETITION = UnitKind("repetition", "repetitions", "repetition", "regime", shared=True)


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
        """What its record begins with: its number, under the key of its kind, and its true labels."""
        ...

    def predictions(
        self, record: Record, decode: Callable[[Sequence[int]], str]
    ) -> Iterator[tuple[str, int, list[float], str]]:
        """Of each variant in its record: the name, the true class, the classes' probabilities and the prompt's text."""
        ...


class Work(Protocol):
    """What `prepare` makes of a task: the units, and whatever else the experiment's own `map` needs."""

    @property
    def units(self) -> Sequence[Any]:
        """What gets a record each (see Unit)."""
        ...


class Experiment(Protocol):
    """A frozen dataclass (`configurable`) of settings with these members. FewShot has most of them already."""

    name: ClassVar[str]
    """What results and directories call it: lower case, with underscores."""
    unit: ClassVar[UnitKind]
    """What it makes a record of."""
    version: ClassVar[str]
    """Part of a run's identity: raise it when a change of the code changes numbers."""

    def check(self, task: Task, shape: Shape) -> None:
        """UserError for settings that this data or a model of this shape cannot satisfy; nothing is loaded yet."""
        ...

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> Any:
        """The work (see Work): its units, and what else they take."""
        ...

    def plan(self, units: Sequence[Any], batch_tokens: int) -> Sequence[Sequence[Any]]:
        """Batches of these units, which depend on nothing but them and the budget of padded tokens."""
        ...

    def map(
        self, lm: LanguageModel, work: Any, batches: Iterable[Sequence[Any]], folder: Path, batch_tokens: int
    ) -> Iterator[list[Record]]:
        """For each batch of the work's units their records, in the same order.

        `folder` takes what else is to be kept; `batch_tokens` is the budget of passes that the experiment divides itself.
        """
        ...

    def finish(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records with what can only be known when all are there."""
        ...

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """A pure function of the records (those of skipped units left out); `labels` names the classes."""
        ...
