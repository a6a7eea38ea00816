"""A run's progress, passed to the recorder while it computes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from anchorflow.results import Record
from anchorflow.tracking.base import Careful, Progress


class Kept(Protocol):
    """A store of records (see `runs.compute.Store`)."""

    @property
    def run(self) -> Path: ...
    def records(self) -> list[Record]: ...
    def elsewhere(self) -> list[Record]: ...
    def append(self, records: Sequence[Record]) -> None: ...
    def progress(self, done: int, total: int, rate: float) -> None: ...


class Followed:
    """A store of records that passes a run's progress to a recorder."""

    def __init__(self, store: Kept, recorder: Careful) -> None:
        self._store = store
        self._recorder = recorder
        self._asked = self._right = 0

    @property
    def run(self) -> Path:
        """The directory for what else an experiment keeps."""
        return self._store.run

    def records(self) -> list[Record]:
        """The stored records; the accuracy of a resumed run includes them."""
        found = self._store.records()
        self._asked = self._right = 0
        self._count(found)
        return found

    def elsewhere(self) -> list[Record]:
        """Records of the same run in other places."""
        return self._store.elsewhere()

    def append(self, records: Sequence[Record]) -> None:
        """Add records."""
        self._store.append(records)
        self._count(records)

    def progress(self, done: int, total: int, rate: float) -> None:
        """Pass the progress to the store and to the recorder."""
        self._store.progress(done, total, rate)
        accuracy = self._right / self._asked if self._asked else None
        left = (total - done) / rate if rate else None
        self._recorder.progress(Progress(done, total, rate, left, accuracy))

    def _count(self, records: Sequence[Record]) -> None:
        for right in map(is_right, records):
            if right is not None:
                self._asked += 1
                self._right += right


def is_right(record: Record) -> bool | None:
    """Whether the most probable class is the true one, for a query in its first variant, for a repetition in its first
    regime after all examples. None if the record has no such field.
    """
    try:
        if "variants" in record:
            true: int = record["label"]
            probs: Sequence[Any] = next(iter(record["variants"].values()))["probs"]
        else:
            true = record["labels"][-1]
            probs = next(iter(record["regimes"].values()))["log_probabilities"][-1]
        return probs.index(max(probs)) == true
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration):
        return None
