"""What a tracker is: whatever a run tells of itself to somebody else."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from anchorflow.results import Result
from anchorflow.tracking.samples import Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a finished run has to show. `dataset` says what the data is (JSON's types), `files` is what was learned."""

    result: Result
    sample: Sample
    dataset: Mapping[str, Any]
    figures: Sequence[Path] = ()
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class Names:
    """What tells a run from others: those that differ in nothing but the seed are a cell."""

    experiment: str
    model: str
    dataset: str
    seed: int
    replicates: bool = True
    """Whether seeds are independent; those of label_relationships share repetitions, and a band over them is none."""

    @property
    def cell(self) -> tuple[str, str, str]:
        """Experiment, model and dataset."""
        return self.experiment, self.model, self.dataset

    @property
    def shown(self) -> dict[str, str | int]:
        """The names by what they name."""
        return {"experiment": self.experiment, "model": self.model, "dataset": self.dataset, "seed": self.seed}


class Recorder(Protocol):
    """Takes what one run has to show."""

    def log(self, content: Content) -> None:
        """Record it. Trouble with that must not end the run."""
        ...


class Tracker(Protocol):
    """A node of the configuration (the group `tracking`) that records runs."""

    def run(
        self,
        folder: Path,
        identity: str,
        config: Mapping[str, Any],
        names: Names,
        settings: Mapping[str, Any],
    ) -> AbstractContextManager[Recorder]:
        """A recorder for a block, which ends as the run ends: an exception in it is a failed run.

        Args:
            folder: the run's directory.
            identity: the run's own; the same identity is the same run, resumed.
            config: the resolved configuration, as result.json has it.
            names: what people find the run by.
            settings: those of the experiment that change a number.
        """
        ...


class _Careful:
    """A recorder, or none, whose trouble is one line in the log."""

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder

    def log(self, content: Content) -> None:
        if self._recorder is not None:
            recorder = self._recorder
            _attempt(lambda: recorder.log(content))


@contextmanager
def recording(begin: Callable[[], AbstractContextManager[Recorder]]) -> Iterator[Recorder]:
    """The recorder of a run for a block. Whatever a tracker raises is one line in the log and costs no result."""
    manager = _attempt(begin)
    recorder = None if manager is None else _attempt(manager.__enter__)
    try:
        yield _Careful(recorder)
    except BaseException:
        if manager is not None and recorder is not None:
            how = sys.exc_info()
            _attempt(lambda: manager.__exit__(*how))
        raise
    if manager is not None and recorder is not None:
        _attempt(lambda: manager.__exit__(None, None, None))


def _attempt(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Exception as error:
        log.debug("the tracker's traceback", exc_info=True)
        log.warning("tracker: it failed (%s: %s); the run continues without it", type(error).__name__, error)
    return None
