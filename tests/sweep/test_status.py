"""What `anchorflow status` says of runs in every state."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from anchorflow import cli
from anchorflow.runs.lock import locked
from anchorflow.sweep import slurm, status
from anchorflow.sweep.liveness import Jobs, look
from tests.sweep.statuses import RESULT, run


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """SLURM knows job 7_1, which waits; job 8 ended out of memory, 9 failed, 10 was cancelled."""
    monkeypatch.setattr(slurm, "alive", lambda user: {"7_1": "Priority"})
    monkeypatch.setattr(slurm, "ended_as", {"8": "OUT_OF_MEMORY", "9": "FAILED", "10": "CANCELLED by 0"}.get)
    return Jobs()


def test_the_command_prints_a_line_for_every_run(
    tmp_path: Path, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = {"done": 20, "total": 100}
    given = {"queries_per_s": 2.345, "left_s": 3723.4, "progress": progress, "requeues": 2}
    at_work = run(tmp_path, "seed1", state="running", job_id="7_1", **given)
    run(tmp_path, "seed2", state="failed", error="out of memory", progress=progress)
    with locked(at_work):
        assert cli.main(["status", str(tmp_path)]) == 0
    head, first, second, error, last = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["run", "state", "job,", "machine"]
    host = socket.gethostname()
    assert first.split() == [
        *("saliency/tiny/sst2/seed1", "running", "job", "7_1,", host, "20/100", "2.35", "1:02:03", "2")
    ]
    assert second.split()[:5] == ["saliency/tiny/sst2/seed2", "failed", host, "20/100"]
    assert error.strip() == "out of memory"
    assert last == "2 runs: 1 failed, 1 running; about 1:02:03 left"
    with locked(at_work):
        assert cli.main(["status", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"] == {"running": 1, "failed": 1}
    assert said["left_s"] == 3723.4
    assert [(one["state"], one["why"]) for one in said["runs"]] == [("running", None), ("failed", "out of memory")]


def test_runs_of_one_seed_are_told_apart_by_their_settings(tmp_path: Path, jobs: Jobs) -> None:
    for name, shots in (("seed1-a", 1), ("seed1-b", 2), ("seed2-c", 1)):
        (told := run(tmp_path, name, state="failed") / ".hydra").mkdir()
        (told / "overrides.yaml").write_text(f"- model=tiny\n- experiment.shots_per_class={shots}\n")
    run(tmp_path, "seed2-d", state="failed")
    lines = status.report([look(folder, jobs) for folder in sorted((tmp_path / "saliency/tiny/sst2").iterdir())])
    assert lines[1].split()[:2] == ["saliency/tiny/sst2/seed1-a", "experiment.shots_per_class=1"]
    assert lines[2].split()[:2] == ["saliency/tiny/sst2/seed1-b", "experiment.shots_per_class=2"]
    assert lines[4].split()[:2] == ["saliency/tiny/sst2/seed2-d", "failed"]


def test_the_time_left_follows_from_what_is_complete(tmp_path: Path, jobs: Jobs) -> None:
    def found(state: Any, **said: Any) -> status.Found:
        return status.Found(tmp_path, state, said, jobs)

    done = found("completed", started="2026-01-01T00:00:00Z", updated="2026-01-01T00:01:40Z")
    running, waiting = found("running", left_s=50.0), found("queued")
    assert status.left_s([done]) is None
    assert status.left_s([running]) == 50
    assert status.left_s([found("running")]) is None
    assert status.left_s([waiting, running]) is None
    assert status.left_s([done, found("completed"), waiting, waiting, running, running]) == 150


def test_watching_ends_when_nothing_runs_any_more(
    tmp_path: Path, jobs: Jobs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tmp_path, "seed1", state="running", job_id="7_1")
    monkeypatch.setattr(time, "sleep", lambda _: (folder / "result.json").write_text(RESULT))
    with locked(folder):
        assert status.show([tmp_path], watch=True) == 0
    assert capsys.readouterr().out.count("1 run: ") == 2


def test_a_path_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(tmp_path / "nowhere")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    (tmp_path / "notes.txt").touch()
    assert cli.main(["status", str(tmp_path / "notes.txt")]) == 2
    assert "notes.txt is a file; allowed: a run's directory" in capsys.readouterr().err
    assert cli.main(["status", str(tmp_path)]) == 0
    assert f"no runs in {tmp_path}" in capsys.readouterr().out
