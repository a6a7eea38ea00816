"""The work of a run: prompts to records, and records to a Result."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from anchorflow.errors import UserError
from anchorflow.experiments import Experiment, Unit
from anchorflow.experiments.able import refuse_unable
from anchorflow.prompts import ContextLimit, PromptBuilder, TooLong
from anchorflow.results import Record, Result
from anchorflow.runs.budget import Budget, choose, halved, nominal, out_of_memory

if TYPE_CHECKING:
    from anchorflow.data import Task
    from anchorflow.models import LanguageModel

log = logging.getLogger(__name__)


class Shard(NamedTuple):
    """Part `number` (from 1) of `of` parts of a run's batches, computed in its own directory below the run's."""

    number: int
    of: int


class Store(Protocol):
    """Where a running experiment keeps its records."""

    @property
    def run(self) -> Path:
        """The directory for the experiment's other files."""
        ...

    def records(self) -> list[Record]:
        """The stored records, one per unit."""
        ...

    def elsewhere(self) -> list[Record]:
        """Records of the same run in other directories."""
        ...

    def append(self, records: Sequence[Record]) -> None:
        """Add records."""
        ...

    def progress(self, done: int, total: int, rate: float) -> None:
        """Report progress: records done, their total, and records per second."""
        ...


@dataclass
class Memory:
    """Records in memory; `run` is the directory for the experiment's own files."""

    run: Path
    kept: list[Record] = field(default_factory=list)

    def records(self) -> list[Record]:
        """The records that were added."""
        return self.kept

    def elsewhere(self) -> list[Record]:
        """None."""
        return []

    def append(self, records: Sequence[Record]) -> None:
        """Add records."""
        self.kept.extend(records)

    def progress(self, done: int, total: int, rate: float) -> None:
        """Nothing to do: the progress bar is enough."""


@dataclass(frozen=True)
class Computed:
    """The units of a run, their records in the same order, the number computed in this process, and the batches."""

    units: Sequence[Unit]
    records: list[Record]
    new: int
    batch_tokens: int


@dataclass(frozen=True)
class Assembled:
    """A run's result with its records. `finished` are those of units that were not skipped."""

    result: Result
    finished: Sequence[Record]
    skipped: Sequence[Record]

    @property
    def records(self) -> list[Record]:
        """All of them."""
        return [*self.finished, *self.skipped]


def compute(
    experiment: Experiment,
    lm: LanguageModel,
    task: Task,
    store: Store,
    *,
    seed: int,
    batch_tokens: Budget,
    too_long: TooLong = "refuse",
    shard: Shard | None = None,
) -> Computed:
    """Compute a record for every unit of the work (or of a shard); records in the store are reused.

    A batch is computed whole if any of its records is missing, so that every number equals that of an uninterrupted run.
    If memory runs out, batches are planned again with half the budget.
    """
    from anchorflow.scoring import readable

    refuse_unable(experiment, lm)
    if task.provenance.overlap and shard is None:
        log.warning(
            "overlap: %d of the %d test examples of %s have the text of a train example",
            *(task.provenance.overlap, len(task.test), task.shown),
        )
    limit = ContextLimit(lm.max_length, lm.name, too_long)
    builder = PromptBuilder.of(task, lm.tokenizer, limit)
    work = experiment.prepare(task, builder, seed)
    kind, units = experiment.unit, work.units
    fitting, skipped = limit.sort_out(units, kind.place, kind.several)
    batches = experiment.plan(fitting, nominal(batch_tokens))  # all shards must plan the same batches
    if shard is not None:
        batches, skipped = batches[shard.number - 1 :: shard.of], []
        units = fitting = [unit for batch in batches for unit in batch]
    done = _resume(store, kind.key, {unit.number for unit in units}, skipped)
    if len(done) > len(skipped):
        log.info("resuming: %d of %d records exist", len(done), len(units))
    before = len(done)
    tokens = choose(batch_tokens, lm, experiment)
    if tokens != nominal(batch_tokens):
        batches = experiment.plan(fitting, tokens)
    batches = readable(lm, batches, tokens)
    while True:
        todo = [batch for batch in batches if any(unit.number not in done for unit in batch)]
        try:
            _map(experiment, lm, work, todo, store, tokens, done, len(units))
            break
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if all(len(batch) == 1 for batch in todo) and tokens <= max(unit.length for unit in fitting):
                raise UserError(
                    f"out of memory with one prompt in a batch (batch_tokens={tokens}); use a smaller dtype or model, "
                    "fewer demonstrations, or a device with more memory."
                ) from error
        tokens = halved(tokens)  # here, the error and the tensors in its traceback are freed
        batches = readable(lm, experiment.plan(fitting, tokens), tokens)
    return Computed(units, [done[unit.number] for unit in units], len(done) - before, tokens)


def assemble(experiment: Experiment, lm: LanguageModel, records: Sequence[Record], labels: Sequence[str]) -> Assembled:
    """Finish and reduce the records of all units. UserError if no prompt fits the context."""
    fitting = [record for record in records if "skipped" not in record]
    skipped = [record for record in records if "skipped" in record]
    if not fitting:
        raise ContextLimit(lm.max_length, lm.name).none_fits(len(records))
    finished = experiment.finish(fitting)
    result = experiment.reduce(finished, labels)
    if skipped:
        several = experiment.unit.several
        note = f"{len(skipped)} of {len(records)} {several} exceed the context and are left out"
        result = replace(result, notes=[*result.notes, note])
    return Assembled(result, finished, skipped)


def _resume(store: Store, key: str, numbers: set[int], skipped: Sequence[Record]) -> dict[int, Record]:
    """The existing records by unit number; those from elsewhere and the skipped ones are added to the store."""
    done = {record[key]: record for record in store.records()}
    new = {record[key]: record for record in (*store.elsewhere(), *skipped) if record[key] in numbers - done.keys()}
    if new:
        store.append(list(new.values()))
    return done | new


def _map(
    experiment: Experiment,
    lm: LanguageModel,
    work: Any,
    batches: Sequence[Sequence[Unit]],
    store: Store,
    batch_tokens: int,
    done: dict[int, Record],
    total: int,
) -> None:
    """Compute these batches and add their records to the store and to `done`."""
    from tqdm import tqdm

    key = experiment.unit.key
    began, before = time.perf_counter(), len(done)
    with tqdm(total=total, initial=before, desc=experiment.name, unit=key, mininterval=0.5) as bar:
        for records in experiment.map(lm, work, batches, store.run, batch_tokens):
            found = [record for record in records if record[key] not in done]
            store.append(found)
            done |= {record[key]: record for record in found}
            bar.update(len(found))
            store.progress(len(done), total, (len(done) - before) / (time.perf_counter() - began))
