"""Runs from the command line: what a server gets of them, what they say in trouble, and one that is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, write_dataset
from tests.tracking.fake_wandb import FakeWandb, fake_wandb
from tests.tracking.recorded import inspect, inspect_one, of_kind, summary

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[FakeWandb]:
    with fake_wandb() as server:
        yield server


def launch(data: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data, *overrides), capture_output=True, text=True, timeout=200, env={**os.environ, **environment}
    )


def command(data: Path, *overrides: str) -> list[str]:
    local = (f"dataset.path={data}", f"hydra.run.dir={data.parent / 'run'}", "device=cpu", "experiment.n_queries=6")
    return [
        sys.executable,
        str(ROOT / "launch.py"),
        "model=tiny",
        "dataset=local",
        "dataset.name=local",
        *local,
        *overrides,
    ]


def troubles(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said of the tracker, in a run that is complete all the same and shows no traceback."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "wandb:" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("tracker: ") or "ailed" in line]


def test_the_command_line_tells_a_server_all_of_a_run(tmp_path: Path, server: FakeWandb) -> None:
    data = write_dataset(tmp_path / "data")
    assert troubles(launch(data, "experiment=reweighting", "tracking=online", **server.environment())) == []
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    run = server.runs[result["identity"]]
    assert run.ends == ["finished"]
    assert run.summary["reweighting/gain"] == result["metrics"]["gain"]
    losses = [row["reweighting/train_loss"] for row in run.history if "reweighting/train_loss" in row]
    assert losses == result["curves"]["train_loss"]["values"]
    assert {("dataset", "local"), ("beta", "beta-tiny-local")} <= {
        (kind, re.sub("-[0-9a-f]{8}$", "", name)) for kind, name in server.artifacts
    }
    assert any("figures/train_loss" in row and "tables/records" in row for row in run.history)


def test_a_bad_key_is_one_line(tmp_path: Path, server: FakeWandb) -> None:
    data = write_dataset(tmp_path / "data")
    (line,) = troubles(launch(data, "tracking=online", **server.environment(key="x" * 40)))
    assert "401" in line
    assert "invalid api key" in line
    assert f"anchorflow sync {tmp_path / 'run'}" in line
    assert of_kind(inspect(tmp_path / "run"), "exit")[0]["exit_code"] == 0


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "wandb").write_text("in the way")
    (line,) = troubles(launch(data, "tracking=offline"))
    assert "tracker: W&B failed (NotADirectoryError: " in line


def test_a_killed_and_resumed_run_is_one_run_with_its_history_once(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=60, test=70)
    several = ("experiment.n_queries=70", "batch_tokens=300", "tracking=offline")
    run = tmp_path / "run"
    for ended_by in (signal.SIGKILL, signal.SIGTERM):
        before = written(run)
        process = subprocess.Popen(command(data, *several), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while written(run) < before + 20:
            assert process.poll() is None, "ended before it could be interrupted"
            time.sleep(0.005)
        process.send_signal(ended_by)
        process.wait(timeout=60)
    assert of_kind(inspect(run), "preempting")
    assert troubles(launch(data, *several)) == []
    attempts = [inspect_one(fragment) for fragment in sorted((run / "wandb").glob("offline-run-*"))]
    killed, stopped, last = attempts
    result = json.loads((run / "result.json").read_text())
    assert {run["run_id"] for events in attempts for run in of_kind(events, "run")} == {result["identity"]}
    assert not of_kind(killed, "exit")
    assert [of_kind(events, "exit")[0]["exit_code"] for events in (stopped, last)] == [1, 0]
    assert summary(last)["saliency/accuracy"] == result["metrics"]["accuracy"]
    shares = [row["item"] for events in attempts for row in of_kind(events, "history") if "layer" in row["item"]]
    assert [row["layer"] for row in shares] == result["curves"]["S_wp"]["at"]
    assert [row["saliency/S_wp"] for row in shares] == pytest.approx(result["curves"]["S_wp"]["values"])


def written(run: Path) -> int:
    path = run / "records.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0
