"""What W&B wrote into a run's directory: a fragment for each attempt at the run."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READING_TIMEOUT_S = 120


@dataclass(frozen=True)
class Attempt:
    """What a fragment says of its run.

    `rows` of its history; `ended`: it was not killed, and does not go on; `missing` are files of its tables and
    artifacts, which W&B looks for where they once were.
    """

    rows: int
    ended: bool
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Fragment:
    """One attempt, recorded offline. `log` is the file with all that happened."""

    log: Path

    @property
    def identity(self) -> str:
        """The id of the run."""
        return self.log.stem.removeprefix("run-")

    @property
    def uploaded(self) -> bool:
        """W&B leaves a mark beside what it has uploaded."""
        return self.log.with_name(f"{self.log.name}.synced").exists()

    def read(self) -> Attempt:
        """What it says, as far as it can be read: a killed one may be cut off anywhere, or empty."""
        events = _events(self.log)
        artifacts = [event["artifact"]["manifest"] for event in events if event["type"] == "artifact"]
        files = [
            file["local_path"]
            for manifest in artifacts
            for file in manifest.get("contents", ())
            if "local_path" in file
        ]
        kinds = [event["type"] for event in events]
        return Attempt(
            rows=kinds.count("history"),
            ended="exit" in kinds,
            missing=tuple(file for file in files if not Path(file).exists()),
        )


def fragments(folder: Path) -> list[Fragment]:
    """Those of a run's directory, oldest first (their names begin with the time)."""
    return [Fragment(log) for log in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))]


def wandb_command(*arguments: str) -> list[str]:
    """W&B's command line, of the installation that runs this."""
    return [sys.executable, "-m", "wandb", *arguments]


def without(names: Sequence[str], **more: str) -> dict[str, str]:
    """The environment for such a command."""
    return {**{key: value for key, value in os.environ.items() if key not in names}, **more}


def _events(log: Path) -> list[Mapping[str, Any]]:
    """W&B's own reader, which gives what can be read of a damaged file."""
    quiet = without(("WANDB_SERVICE",), WANDB_MODE="offline", WANDB_ERROR_REPORTING="false")
    done = subprocess.run(
        wandb_command("leet", "inspect", "--json", str(log)),
        capture_output=True,
        text=True,
        env=quiet,
        timeout=READING_TIMEOUT_S,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
