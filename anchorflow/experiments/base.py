"""The interface of experiments: map prompts to records (with the model), and reduce records to a Result (without)."""

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
    """The kind of unit that gets a record: a query or a repetition."""

    key: str
    """The field of a record with the unit's number ("query")."""
    several: str
    """The plural, used in the counts of a result ("queries")."""
    place: str
    """The name in error messages ("test row")."""
    variant: str = "variant"
    """What distinguishes the predictions of one unit ("variant", "regime")."""
    shared: bool = False
    """Whether runs with different seeds share most of their units, so that their spread is no measure of error."""


QUERY = UnitKind("query", "queries", "test row")
REPETITION = UnitKind("repetition", "repetitions", "repetition", "regime", shared=True)


class Unit(Protocol):
    """What gets one record: a prompt, or a repetition with a prompt for each regime."""

    @property
    def number(self) -> int:
        """Its number among the units of the run."""
        ...

    @property
    def length(self) -> int:
        """Tokens of the longest prompt."""
        ...

    @property
    def head(self) -> dict[str, Any]:
        """The first fields of its record: its number, under the key of its kind, and its true labels."""
        ...

    def predictions(
        self, record: Record, decode: Callable[[Sequence[int]], str]
    ) -> Iterator[tuple[str, int, list[float], str]]:
        """For each variant in its record: the name, the true class, the class probabilities and the text of the prompt."""
        ...


class Work(Protocol):
    """What `prepare` makes of a task: the units, and anything else that the experiment's `map` needs."""

    @property
    def units(self) -> Sequence[Any]:
        """The units, each of which gets one record (see Unit)."""
        ...


class Experiment(Protocol):
    """A frozen dataclass (`configurable`) of settings with these members. FewShot already has most of them."""

    name: ClassVar[str]
    """The name in results and directories: lower case, with underscores."""
    unit: ClassVar[UnitKind]
    """The kind of its units."""
    version: ClassVar[str]
    """Part of a run's identity. Raise it when a change of the code changes numbers."""

    def check(self, task: Task, shape: Shape) -> None:
        """Raise UserError for settings that the data or a model of this shape cannot satisfy. No weights are loaded yet."""
        ...

    def prepare(self, task: Task, builder: PromptBuilder, seed: int) -> Any:
        """The work (see Work): the units, and anything else that `map` needs."""
        ...

    def plan(self, units: Sequence[Any], batch_tokens: int) -> Sequence[Sequence[Any]]:
        """Batches of these units, which depend only on the units and the budget of padded tokens."""
        ...

    def map(
        self, lm: LanguageModel, work: Any, batches: Iterable[Sequence[Any]], folder: Path, batch_tokens: int
    ) -> Iterator[list[Record]]:
        """Yield the records of each batch of the work's units, in the same order.

        `folder` is for further files; `batch_tokens` is the budget of passes that the experiment divides itself.
        """
        ...

    def finish(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records, completed with values that depend on all of them."""
        ...

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """The result, a pure function of the records (without those of skipped units); `labels` names the classes."""
        ...
