"""What `anchorflow status` says of runs in every state."""

import socket
import time
from pathlib import Path

import pytest

from anchorflow import cli
from anchorflow.runs.lock import locked
from anchorflow.sweep import slurm, status
from anchorflow.sweep.liveness import Jobs
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
    head, first, second, last = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["run", "state", "job,", "machine"]
    host = socket.gethostname()
    assert first.split() == [
        *("saliency/tiny/sst2/seed1", "running", "job", "7_1,", host, "20/100", "2.35", "1:02:03", "2")
    ]
    assert second.split()[:5] == ["saliency/tiny/sst2/seed2", "failed", host, "20/100", "out"]
    assert sorted(last.removeprefix("2 runs: ").split(", ")) == ["1 failed", "1 running"]


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
    assert cli.main(["status", str(tmp_path)]) == 0
    assert f"no runs in {tmp_path}" in capsys.readouterr().out
