"""The interface of trackers, which receive the progress and the result of a run."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from anchorflow.results import Result
from anchorflow.tracking.names import Names
from anchorflow.tracking.samples import Sample

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Content:
    """The content of a complete run. `dataset` describes the data (JSON types), `files` are learned parameters.

    `records` is the file with all records, `described` the content of result.json.
    """

    result: Result
    sample: Sample
    dataset: Mapping[str, Any]
    figures: Sequence[Path] = ()
    files: Sequence[Path] = ()
    records: Path | None = None
    described: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """A run's progress: records done and in total, records per second, seconds left, and the accuracy so far."""

    done: int
    total: int
    per_s: float
    left_s: float | None = None
    accuracy: float | None = None


class Recorder(Protocol):
    """Records one run.

    Optional members: `progress(Progress)`, called while the run computes, and `url`, the page of the run.
    """

    def log(self, content: Content) -> None:
        """Record the content. A failure must not end the run."""
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
        """A recorder within a block that ends with the run: an exception in the block means a failed run.

        Args:
            folder: the run's directory.
            identity: the identity of the run; the same identity means the same run, resumed.
            config: the resolved configuration, as in result.json.
            names: the names of the run.
            settings: the settings of the experiment that change a number.
        """
        ...


class Careful:
    """A recorder (or none) whose failures are one line in the log."""

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder
        self._failed = False

    @property
    def url(self) -> str | None:
        """The page of the run, if it has one."""
        found: str | None = getattr(self._recorder, "url", None)
        return found

    def log(self, content: Content) -> None:
        """Record it."""
        if self._recorder is not None:
            recorder = self._recorder
            _attempt(lambda: recorder.log(content))

    def progress(self, progress: Progress) -> None:
        """Pass the progress to a recorder with a method `progress`, until that fails."""
        tell = getattr(self._recorder, "progress", None)
        if tell is not None and not self._failed:
            self._failed = _attempt(lambda: (tell(progress),)) is None


@contextmanager
def recording(begin: Callable[[], AbstractContextManager[Recorder]]) -> Iterator[Careful]:
    """The recorder of a run within a block. Any exception of a tracker becomes one line in the log and loses no result."""
    manager = _attempt(begin)
    recorder = None if manager is None else _attempt(manager.__enter__)
    try:
        yield Careful(recorder)
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
