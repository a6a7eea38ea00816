"""A tracker that adds a line to a file for every run."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anchorflow.settings import configurable, setting
from anchorflow.tracking import Content, Names


class Row:
    """The row of one run."""

    def __init__(self) -> None:
        self.metrics: Mapping[str, float] = {}

    def log(self, content: Content) -> None:
        """Keep the metrics until the run ends."""
        self.metrics = content.result.metrics


@configurable
class CsvTracker:
    """Writes experiment, model, dataset, seed and metrics of every successful run."""

    path: str = setting(default="runs.csv", kind="shown")
    """The file."""

    @contextmanager
    def run(
        self, folder: Path, identity: str, config: Mapping[str, Any], names: Names, settings: Mapping[str, Any]
    ) -> Iterator[Row]:
        """A row for the block; an exception in it leaves none."""
        row = Row()
        yield row
        with Path(self.path).open("a", newline="") as file:
            csv.writer(file).writerow([*names.shown.values(), *row.metrics.values()])
