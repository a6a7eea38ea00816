"""Whether a run is queued, alive, lost or over."""

import json
import math
import os
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from anchorflow.runs import RunDirectory
from anchorflow.runs.lock import SILENCE_S, Owner, locked
from anchorflow.sweep import slurm
from anchorflow.sweep.liveness import Jobs, look
from tests.sweep.statuses import RESULT, run

OTHER_USER = 65534


def sweep(folder: Path, *jobs: str | None, launcher: str = "slurm") -> str:
    """The plan of a sweep whose packs were given to these jobs."""
    (folder / "plan.json").write_text(json.dumps({"launcher": launcher, "packs": [{"job_id": job} for job in jobs]}))
    return str(folder / "plan.json")


def touched(folder: Path, ago: float) -> None:
    """A process of another machine, whose locks are not seen here, touched its lease so many seconds ago."""
    owner = replace(Owner.this(locks=True), host="another", kernel="another")
    (folder / ".lease.1").write_text(json.dumps(asdict(owner)))
    os.utime(folder / ".lease.1", (time.time() - ago,) * 2)


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """SLURM knows job 7_1, which waits, 6, which runs, and another user's 5; job 8 ended out of memory, 9 failed, 10 was
    cancelled.
    """
    living = {os.getuid(): {"7_1": "Priority", "6": ""}, OTHER_USER: {"5": ""}}
    monkeypatch.setattr(slurm, "alive", living.get)
    monkeypatch.setattr(slurm, "installed", lambda: True)
    monkeypatch.setattr(slurm, "private", lambda: False)
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
        run(tmp_path, "killed", state="running", job_id="8"): "lost",
        run(tmp_path, "killed in a session that lives", state="running", job_id="6"): "lost",
        run(tmp_path, "without a process", state="running", job_id=None): "lost",
        run(tmp_path, "elsewhere", state="running", job_id=None, host="another"): "lost",
        run(tmp_path, "result deleted", state="completed"): "preempted",
    }
    for folder, state in expected.items():
        assert look(folder, jobs).state == state, folder.name
    assert look(tmp_path / "saliency/tiny/sst2/failed", jobs).why == "it broke\nhere"
    assert "its process is gone (job 8, " in look(tmp_path / "saliency/tiny/sst2/killed", jobs).why
    assert "result.json is damaged" in look(damaged, jobs).why
    assert "OUT_OF_MEMORY" in look(tmp_path / "saliency/tiny/sst2/killed", jobs).why
    assert "run the same command again to resume it" in look(tmp_path / "saliency/tiny/sst2/stopped", jobs).why


def test_slurm_is_asked_once_how_a_job_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(slurm, "alive", lambda user: {})
    monkeypatch.setattr(slurm, "ended_as", asked.append)
    jobs = Jobs()
    for i in range(3):
        assert "its process is gone" in look(run(tmp_path, str(i), state="running", job_id="8"), jobs).why
    assert asked == ["8"]


@pytest.mark.parametrize("host", ["this", "another login node"])
def test_a_process_of_this_machine_is_known_by_its_lock(tmp_path: Path, jobs: Jobs, host: str) -> None:
    """Whatever the machine is called: in a container, or since it was renamed."""
    folder = run(tmp_path, "here", state="running", job_id=None, **({} if host == "this" else {"host": host}))
    with locked(folder):
        assert look(folder, jobs).state == "running"
    assert look(folder, jobs).state == "lost"


@pytest.mark.parametrize(
    ("job", "ago", "state"),
    [
        (None, 5, "running"),
        (None, SILENCE_S + 5, "lost"),
        ("6", 5, "running"),
        ("6", SILENCE_S + 5, "lost"),  # a session that goes on
        ("8", 5, "lost"),  # SLURM knows it sooner
        ("7_1", 5, "running"),
        ("7_1", SILENCE_S + 5, "queued"),  # its node died, and SLURM begins it again
    ],
)
def test_a_process_of_another_machine_is_known_by_its_sign_of_life(
    tmp_path: Path, jobs: Jobs, job: str | None, ago: float, state: str
) -> None:
    folder = run(tmp_path, "there", state="running", job_id=job, host="another")
    touched(folder, ago)
    assert look(folder, jobs).state == state


def test_a_requeued_job_that_waits_keeps_its_runs(tmp_path: Path, jobs: Jobs) -> None:
    plan = sweep(tmp_path, "7_1", "6", "8")
    stopped = {"state": "preempted", "sweep": plan, "progress": {"done": 3, "total": 9}}
    waits = look(run(tmp_path, "waits", packs=[0], job_id="7_1", **stopped), jobs)
    assert (waits.state, waits.where, waits.status["progress"]["done"]) == ("queued", "job 7_1 (Priority)", 3)
    has_begun = look(run(tmp_path, "not at it yet", packs=[1], job_id="6", **stopped), jobs)
    assert (has_begun.state, has_begun.where) == ("queued", "job 6 (running)")
    assert look(run(tmp_path, "over", packs=[2], job_id="8", **stopped), jobs).state == "preempted"
    own_script = run(tmp_path, "a script of one's own", state="preempted", job_id="7_1")
    assert look(own_script, jobs).state == "queued"
    stopped_by_hand = run(tmp_path, "in a session", state="preempted", job_id="6")
    assert look(stopped_by_hand, jobs).state == "preempted"


def test_where_slurm_gives_no_answer_its_jobs_are_believed_to_come(
    tmp_path: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = sweep(tmp_path, "8")
    queued = run(tmp_path, "queued", state="queued", sweep=plan, packs=[0])
    stopped = run(tmp_path, "stopped", state="preempted", sweep=plan, packs=[0])
    monkeypatch.setattr(slurm, "alive", lambda user: None)
    assert [look(one, Jobs()).state for one in (queued, stopped)] == ["queued", "queued"]
    assert look(queued, Jobs()).where == "job 8 (unknown)"
    monkeypatch.setattr(slurm, "installed", lambda: False)  # a workstation that took over the folder
    assert [look(one, Jobs()).state for one in (queued, stopped)] == ["queued", "preempted"]


def test_another_users_jobs_are_asked_for(tmp_path: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = run(tmp_path, "theirs", state="queued", sweep=sweep(tmp_path, "5"), packs=[0])
    gone = run(tmp_path, "gone", state="running", job_id="8", host="another")
    touched(gone, 5)
    real = Path.stat

    def stat(path: Path, **settings: Any) -> Any:
        found = real(path, **settings)
        return os.stat_result((*found[:4], OTHER_USER, *found[5:10])) if path.name == "status.json" else found

    monkeypatch.setattr(Path, "stat", stat)
    assert (look(theirs, jobs).state, look(theirs, jobs).where) == ("queued", "job 5 (running)")
    assert look(gone, jobs).state == "lost"
    monkeypatch.setattr(slurm, "private", lambda: True)  # then SLURM's silence says nothing, and the sign of life does
    assert look(gone, Jobs()).state == "running"


def test_a_queued_run_waits_for_the_jobs_of_its_sweep(tmp_path: Path, jobs: Jobs) -> None:
    plan = sweep(tmp_path, "9", "7_1", None, "10")
    for name, pack, state in (("gone", 0, "new"), ("waiting", 1, "queued"), ("never", 2, "new")):
        assert look(run(tmp_path, name, state="queued", sweep=plan, packs=[pack]), jobs).state == state
    assert look(tmp_path / "saliency/tiny/sst2/waiting", jobs).where == "job 7_1 (Priority)"
    ended = look(tmp_path / "saliency/tiny/sst2/gone", jobs)
    assert ended.why == f"job 9 (FAILED) ended before this run began; see {tmp_path / 'jobs'}"
    assert look(run(tmp_path, "given up", state="queued", sweep=plan, packs=[3]), jobs).state == "cancelled"
    assert look(run(tmp_path, "lost plan", state="queued", sweep="/no/where", packs=[0]), jobs).state == "new"


def test_a_queued_run_waits_for_a_process_of_this_machine(
    tmp_path: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"31": "python -m submitit.local._local /folder", "32": "an editor that has its number by now"}
    monkeypatch.setattr(slurm, "ask", lambda *command: said.get(command[2]))
    plan = sweep(tmp_path, "31", "32", "33", launcher="submitit_local")
    for pack, state in enumerate(("queued", "new", "new")):
        found = look(run(tmp_path, str(pack), state="queued", sweep=plan, packs=[pack]), jobs)
        assert found.state == state
        assert ("ended before this run began" in found.why) == (state == "new")
    elsewhere = run(tmp_path, "elsewhere", state="queued", sweep=plan, packs=[2], host="another")
    assert look(elsewhere, jobs).state == "new"
    touched(tmp_path, 5)  # the sweep there lives
    assert look(elsewhere, jobs).state == "queued"


def test_shards_are_one_run(tmp_path: Path, jobs: Jobs) -> None:
    folder = run(tmp_path, "split", state="queued", sweep="/no/where", packs=[0])
    states = [("completed", 5, 5, 1.0), ("running", 2, 5, 2.0)]
    for number, (state, done, total, rate) in enumerate(states, start=1):
        path = RunDirectory(folder).shard(number, 3).path
        progress = {"done": done, "total": total}
        said = {"state": state, "job_id": "7_1", "progress": progress, "queries_per_s": rate, "left_s": 3.0}
        (path / "status.json").write_text(json.dumps(said))
    touched(RunDirectory(folder).shard(2, 3).path, 0)
    found = look(folder, jobs)
    assert found.state == "running"
    assert found.status["progress"] == {"done": 7, "total": 10}
    assert (found.status["queries_per_s"], found.status["left_s"]) == (2.0, 3.0)
    (RunDirectory(folder).shard(2, 3).path / "status.json").write_text(json.dumps({"state": "failed", "error": "no"}))
    assert (look(folder, jobs).state, look(folder, jobs).why) == ("failed", "no")


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
    assert not slurm.installed()
    assert not slurm.private()
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


def test_jobs_that_have_begun_are_told_from_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(*command: str) -> str:
        asked.extend(command)
        return "12_3 PENDING Resources\n12_4 PENDING None\n9 RUNNING None\n8 COMPLETING None\n7 PENDING (a reason)\n"

    monkeypatch.setattr(slurm, "ask", ask)
    found = {"12_3": "Resources", "12_4": "Pending", "9": "", "8": "", "7": "(a reason)"}
    assert slurm.alive(OTHER_USER) == found
    assert asked[asked.index("--user") + 1] == str(OTHER_USER)


def test_a_cluster_may_hide_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, private in (("accounts,jobs,usage", True), ("none", False), ("accounts", False)):
        monkeypatch.setattr(slurm, "ask", lambda *_, said=said: f"Plugin = x\nPrivateData             = {said}\n")
        assert slurm.private() is private


def test_the_users_own_view_of_the_queue_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_PARTITION", "gpu")
    assert "SQUEUE_PARTITION" not in (slurm.ask("env") or "SQUEUE_PARTITION")
