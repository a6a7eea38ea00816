"""What tests of sweeps on a real SLURM share."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anchorflow.sweep import slurm
from tests.launching import on_tiny, records, without_timing
from tests.sweep.cluster import Cluster

QUERIES = 300
SLOW = ("experiment=saliency", f"experiment.n_queries={QUERIES}", "batch_tokens=1")
"""Some seconds of work, a record at a time."""


Sweep = Callable[..., subprocess.CompletedProcess[str]]


def given(data: Path, *overrides: str, where: str = "slurm") -> tuple[str, ...]:
    return ("-m", *on_tiny(data), "device=cpu", "experiment.n_queries=6", f"launcher={where}", *overrides)


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Every result without its timing, by its directory's name."""
    found = sorted(folder.glob("*/tiny/*/seed*/result.json"))
    return {str(path.parent.relative_to(folder)): without_timing(path.parent) for path in found}


def status(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "anchorflow.cli", "status", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(ready: Callable[[], Any], patience_s: float = 150) -> Any:
    end = time.monotonic() + patience_s
    while not (found := ready()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)
    return found


def only_run(folder: Path) -> Path | None:
    found = [path.parent for path in folder.glob("*/tiny/*/seed*/status.json")]
    return found[0] if found else None


def at_record(folder: Path, at: int = 20) -> Path:
    """The only run of a sweep, once it has so many records."""

    def there() -> Path | None:
        run = only_run(folder)
        path = run / "records.jsonl" if run else None
        return run if path and path.exists() and path.read_bytes().count(b"\n") >= at else None

    run: Path = until(there)
    assert not (run / "result.json").exists(), "too late to disturb it"
    return run


def said(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "status.json").read_text())
    return found


def come_back(cluster: Cluster, job: str) -> None:
    """SLURM lets a requeued job wait for two minutes; a node refuses one that comes back in the very second it left."""
    time.sleep(6)
    cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")


def nobody_works() -> bool:
    return slurm.alive() == {}


def logs(folder: Path) -> str:
    """What all jobs of the sweeps there, and the runs themselves, have logged."""
    paths = [*folder.glob("outputs/sweeps/*/jobs/*.out"), *folder.glob("outputs/*/tiny/*/*/launch.log")]
    assert paths
    return "\n".join(path.read_text() for path in paths)


def whole_again(tmp_path: Path, sweep: Sweep, undisturbed: dict[str, dict[str, Any]], *overrides: str) -> None:
    """After a relaunch everything is as if nothing had been."""
    done = sweep(*SLOW, *overrides)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path / "outputs")
    assert run is not None
    assert results(tmp_path / "outputs") == undisturbed
    numbers = [record["query"] for record in records(run)]
    assert len(numbers) == len(set(numbers)) == QUERIES
