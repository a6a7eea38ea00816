"""What `anchorflow status` says of runs in every state."""

import json
import math
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from anchorflow import cli
from anchorflow.runs import RunDirectory
from anchorflow.sweep import slurm, status
from anchorflow.sweep.status import Jobs, look

RESULT = '{"identity": "a", "metrics": {}}'


def run(folder: Path, name: str, **fields: Any) -> Path:
    """A run's directory with this status.json."""
    path = folder / "saliency" / "tiny" / "sst2" / name
    path.mkdir(parents=True)
    if fields:
        (path / "status.json").write_text(json.dumps({"host": socket.gethostname(), **fields}))
    return path


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """SLURM knows job 7_1, which waits; job 8 ended out of memory, 9 failed, 10 was cancelled."""
    monkeypatch.setattr(slurm, "alive", lambda: {"7_1": "Priority"})
    monkeypatch.setattr(slurm, "ended_as", {"8": "OUT_OF_MEMORY", "9": "FAILED", "10": "CANCELLED by 0"}.get)
    return Jobs()


def test_the_state_of_a_run_is_what_its_directory_and_slurm_say(tmp_path: Path, jobs: Jobs) -> None:
    done = run(tmp_path, "done", state="running")
    (done / "result.json").write_text(RESULT)
    damaged = run(tmp_path, "damaged", state="completed")
    (damaged / "result.json").write_text("{}")
    expected = {
        done: "completed",
        damaged: "failed",
        run(tmp_path, "nothing"): "new",
        run(tmp_path, "failed", state="failed", error="it broke\nhere"): "failed",
        run(tmp_path, "stopped", state="preempted"): "preempted",
        run(tmp_path, "cancelled", state="cancelled"): "cancelled",
        run(tmp_path, "at work", state="running", job_id="7_1"): "running",
        run(tmp_path, "killed", state="running", job_id="8"): "lost",
        run(tmp_path, "without a process", state="running", job_id=None): "lost",
        run(tmp_path, "elsewhere", state="running", job_id=None, host="another"): "running",
        run(tmp_path, "result deleted", state="completed"): "preempted",
    }
    for folder, state in expected.items():
        assert look(folder, jobs).state == state, folder.name
    assert look(tmp_path / "saliency/tiny/sst2/failed", jobs).why == "it broke\nhere"
    assert "its process is gone (job 8, " in look(tmp_path / "saliency/tiny/sst2/killed", jobs).why
    assert "result.json is damaged" in look(damaged, jobs).why
    assert "OUT_OF_MEMORY" in look(tmp_path / "saliency/tiny/sst2/killed", jobs).why


def test_slurm_is_asked_once_how_a_job_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(slurm, "alive", dict)
    monkeypatch.setattr(slurm, "ended_as", asked.append)
    jobs = Jobs()
    for i in range(3):
        assert "its process is gone" in look(run(tmp_path, str(i), state="running", job_id="8"), jobs).why
    assert asked == ["8"]


def test_a_process_of_this_machine_is_known_by_its_lock(tmp_path: Path, jobs: Jobs) -> None:
    folder = run(tmp_path, "here", state="running", job_id=None)
    with RunDirectory(folder).locked():
        assert look(folder, jobs).state == "running"
    assert look(folder, jobs).state == "lost"


def test_a_queued_run_waits_for_the_jobs_of_its_sweep(tmp_path: Path, jobs: Jobs) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(
        json.dumps(
            {"launcher": "slurm", "packs": [{"job_id": "9"}, {"job_id": "7_1"}, {"job_id": None}, {"job_id": "10"}]}
        )
    )
    for name, pack, state in (("gone", 0, "new"), ("waiting", 1, "queued"), ("never", 2, "new")):
        assert look(run(tmp_path, name, state="queued", sweep=str(plan), packs=[pack]), jobs).state == state
    assert look(tmp_path / "saliency/tiny/sst2/waiting", jobs).where == "job 7_1 (Priority)"
    ended = look(tmp_path / "saliency/tiny/sst2/gone", jobs)
    assert ended.why == f"job 9 (FAILED) ended before this run began; see {tmp_path / 'jobs'}"
    assert look(run(tmp_path, "given up", state="queued", sweep=str(plan), packs=[3]), jobs).state == "cancelled"
    assert look(run(tmp_path, "lost plan", state="queued", sweep="/no/where", packs=[0]), jobs).state == "new"


def test_a_queued_run_waits_for_a_process_of_this_machine(
    tmp_path: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"31": "python -m submitit.local._local /folder", "32": "an editor that has its number by now"}
    monkeypatch.setattr(slurm, "ask", lambda *command: said.get(command[2]))
    plan = tmp_path / "plan.json"
    packs = [{"job_id": job} for job in ("31", "32", "33")]
    plan.write_text(json.dumps({"launcher": "submitit_local", "packs": packs}))
    for pack, state in enumerate(("queued", "new", "new")):
        found = look(run(tmp_path, str(pack), state="queued", sweep=str(plan), packs=[pack]), jobs)
        assert found.state == state
        assert ("ended before this run began" in found.why) == (state == "new")
    elsewhere = run(tmp_path, "elsewhere", state="queued", sweep=str(plan), packs=[2], host="another")
    assert look(elsewhere, jobs).state == "queued"


def test_shards_are_one_run(tmp_path: Path, jobs: Jobs) -> None:
    folder = run(tmp_path, "split", state="queued", sweep="/no/where", packs=[0])
    states = [("completed", 5, 5, 1.0), ("running", 2, 5, 2.0)]
    for number, (state, done, total, rate) in enumerate(states, start=1):
        path = RunDirectory(folder).shard(number, 3).path
        progress = {"done": done, "total": total}
        said = {"state": state, "job_id": "7_1", "progress": progress, "queries_per_s": rate, "left_s": 3.0}
        (path / "status.json").write_text(json.dumps(said))
    found = look(folder, jobs)
    assert found.state == "running"
    assert found.status["progress"] == {"done": 7, "total": 10}
    assert (found.status["queries_per_s"], found.status["left_s"]) == (2.0, 3.0)
    (RunDirectory(folder).shard(2, 3).path / "status.json").write_text(json.dumps({"state": "failed", "error": "no"}))
    assert (look(folder, jobs).state, look(folder, jobs).why) == ("failed", "no")


def test_the_command_prints_a_line_for_every_run(
    tmp_path: Path, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = {"done": 20, "total": 100}
    given = {"queries_per_s": 2.345, "left_s": 3723.4, "progress": progress, "requeues": 2}
    run(tmp_path, "seed1", state="running", job_id="7_1", **given)
    run(tmp_path, "seed2", state="failed", error="out of memory", progress=progress)
    assert cli.main(["status", str(tmp_path)]) == 0
    head, first, second, error, last = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["run", "state", "job,", "machine"]
    host = socket.gethostname()
    assert first.split() == [
        *("saliency/tiny/sst2/seed1", "running", "job", "7_1,", host, "20/100", "2.35", "1:02:03", "2")
    ]
    assert second.split()[:5] == ["saliency/tiny/sst2/seed2", "failed", host, "20/100"]
    assert error.strip() == "out of memory"
    counts, _, left = last.removeprefix("2 runs: ").partition("; ")
    assert sorted(counts.split(", ")) == ["1 failed", "1 running"]
    assert left == "about 1:02:03 left"
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
    assert status.show([tmp_path], watch=True) == 0
    assert capsys.readouterr().out.count("1 run: ") == 2


def test_a_path_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(tmp_path / "nowhere")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    assert cli.main(["status", str(tmp_path)]) == 0
    assert f"no runs in {tmp_path}" in capsys.readouterr().out


def test_half_written_files_are_no_obstacle(tmp_path: Path, jobs: Jobs) -> None:
    folder = run(tmp_path, "odd", state="running")
    (folder / "status.json").write_text('{"state": "runn')
    assert look(folder, jobs).state == "new"
    (folder / "status.json").write_text("[1]")
    assert look(folder, jobs).state == "new"


def test_slurm_that_is_not_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/where")
    assert slurm.alive() is None
    assert slurm.ended_as("1") is None
    assert (slurm.partitions(), slurm.largest_array(), slurm.stop_state()) == ({}, 1000, "preempted")
    assert Jobs().alive("1")


def test_asking_slurm_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*arguments: Any, **settings: Any) -> None:
        raise subprocess.TimeoutExpired("squeue", settings["timeout"])

    monkeypatch.setattr(subprocess, "run", slow)
    assert slurm.alive() is None


def test_time_limits_of_partitions_are_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "main* 1:30:00\nlong 2-00:00:00\nshort 30:00\nopen infinite\nodd n/a\nmain* 1:30:00\n"
    monkeypatch.setattr(slurm, "ask", lambda *_: said)
    assert slurm.partitions() == {"main*": 90, "long": 2880, "short": 30, "open": math.inf, "odd": math.inf}
