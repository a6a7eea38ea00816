"""What a tracker is: whatever a run tells of itself to somebody else."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from anchorflow.results import Result
from anchorflow.tracking.samples import Sample


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

    @property
    def cell(self) -> tuple[str, str, str]:
        """Experiment, model and dataset."""
        return self.experiment, self.model, self.dataset


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
