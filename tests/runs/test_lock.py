"""One process at a time, and whether it lives: with locks, without them, and seen from another machine."""

import errno
import fcntl
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from anchorflow.errors import UserError
from anchorflow.runs import RunDirectory, lock
from anchorflow.runs.lock import SILENCE_S, Lease, Owner, held, lives, locked

FORKING = multiprocessing.get_context("fork")
LOCKS = [0, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK]


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", without_locks(errno.ENOSYS))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.05)


def _work(folder: Path, error: int, said: Connection, hold: bool) -> None:
    """In a process of its own; with `error` its file system has no locks."""
    if error:
        fcntl.flock = without_locks(error)
    try:
        with locked(folder):
            said.send("works")
            while hold:
                time.sleep(1)
    except UserError as refused:
        said.send(str(refused))


def without_locks(error: int) -> Callable[..., None]:
    def flock(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    return flock


def begun(folder: Path, error: int = 0, hold: bool = True) -> tuple[BaseProcess, Connection]:
    here, there = FORKING.Pipe()
    process = FORKING.Process(target=_work, args=(folder, error, there, hold))
    process.start()
    return process, here


@contextmanager
def at_work(folder: Path, error: int = 0) -> Iterator[BaseProcess]:
    process, said = begun(folder, error)
    assert said.recv() == "works"
    try:
        yield process
    finally:
        process.kill()
        process.join()


def written(folder: Path, owner: Owner, beat: float = 0) -> Lease:
    """The lease of a process, touched so many seconds ago."""
    lease = Lease(folder, 1)
    lease.path.write_text(json.dumps(asdict(owner)))
    os.utime(lease.path, (time.time() - beat,) * 2)
    return lease


def elsewhere(**fields: Any) -> Owner:
    return replace(Owner.this(locks=True), host="another", kernel="another", **fields)


@pytest.mark.parametrize("error", LOCKS)
def test_a_second_process_is_turned_away_and_a_dead_one_is_not_in_the_way(
    tmp_path: Path, error: int, request: pytest.FixtureRequest
) -> None:
    if error:
        request.getfixturevalue("no_locks")
    with at_work(tmp_path, error) as first:
        assert lives(tmp_path)
        second, said = begun(tmp_path, error, hold=False)
        assert f"another process is working in {tmp_path} (pid {first.pid} on " in said.recv()
        second.join()
    assert not lives(tmp_path)
    with locked(tmp_path):
        assert lives(tmp_path)
        assert held(tmp_path) is (None if error else True)
    assert not lives(tmp_path)


def test_where_the_locks_of_one_machine_are_hidden_from_another_the_lease_tells(tmp_path: Path, no_locks: None) -> None:
    with at_work(tmp_path), pytest.raises(UserError, match="another process is working"), locked(tmp_path):
        pass


def test_a_process_of_another_machine_lives_as_long_as_it_touches_its_lease(tmp_path: Path) -> None:
    for beat, alive in ((0, True), (SILENCE_S - 5, True), (SILENCE_S + 5, False)):
        written(tmp_path, elsewhere(), beat)
        assert lives(tmp_path) is alive


def test_one_waits_for_a_silent_process_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, elsewhere(), SILENCE_S - 0.5)
    began = time.monotonic()
    with locked(tmp_path) as lease:
        assert time.monotonic() - began >= 0.4
        assert [path.name for path in tmp_path.glob(".lease.*")] == [".lease.2"]
        assert not lease.lost


def test_one_gives_way_once_a_process_of_another_machine_is_seen_to_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = written(tmp_path, elsewhere(), 60)
    monkeypatch.setattr(time, "sleep", lambda _: os.utime(lease.path))
    with pytest.raises(UserError, match=r"another process is working in .* on another\)"), locked(tmp_path):
        pass


def test_a_requeued_job_does_not_wait_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    written(tmp_path, elsewhere(job="7", restarts=0))
    with locked(tmp_path):
        pass


def test_a_lease_is_kept_by_being_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.02)
    with locked(tmp_path) as lease:
        os.utime(lease.path, (1, 1))
        until = time.monotonic() + 20
        while lease.beat() == 1:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert lease.beat() == 0


def test_who_was_silent_for_too_long_writes_no_more(tmp_path: Path, no_locks: None) -> None:
    directory = RunDirectory(tmp_path)
    with directory.locked():
        directory.claim("a")
        directory.append([{"query": 0}])
        directory.report("running")
        written(tmp_path, elsewhere(), SILENCE_S + 5)  # as after a night in a closed laptop
        with locked(tmp_path):
            with pytest.raises(UserError, match="another process has taken over"):
                directory.append([{"query": 1}])
            directory.report_end("failed", error="taken over")
    assert directory.records() == [{"query": 0}]
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "running"


def test_a_number_that_was_used_before_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process saw no lease, and was slow: meanwhile the first was made and followed by a second."""
    latest = Lease.latest
    answers = iter([None])
    with locked(tmp_path), locked_again(tmp_path):
        pass
    (old,) = tmp_path.glob(".lease.*")
    monkeypatch.setattr(Lease, "latest", classmethod(lambda cls, folder: next(answers, latest(folder))))
    with locked(tmp_path) as lease:
        assert lease.number == int(old.suffix[1:]) + 1


@contextmanager
def locked_again(folder: Path) -> Iterator[None]:
    """Takes the lease of this very process as if it were dead."""
    written(folder, elsewhere(), SILENCE_S + 5)
    (folder / ".lock").unlink()
    with locked(folder):
        yield


@pytest.mark.parametrize("before", [False, True])
def test_without_locks_exactly_one_of_many_gets_the_lease(tmp_path: Path, before: bool) -> None:
    if before:
        written(tmp_path, elsewhere(), SILENCE_S + 5)
    several = [begun(tmp_path, errno.ENOSYS) for _ in range(8)]
    found = [said.recv() for _, said in several]
    for process, _ in several:
        process.kill()
        process.join()
    assert sorted("another process is working" in one for one in found) == [False] + [True] * 7


def test_what_cannot_be_read_or_written_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Lease(tmp_path, 1).path.write_text("{")  # just being written
    assert lives(tmp_path)
    assert not Lease(tmp_path, 2).alive(time.time(), free=True)
    (tmp_path / ".lease.odd").touch()
    os.utime(tmp_path / ".lease.1", (0, 0))
    open_ = Path.open

    def full(path: Path, mode: str = "r", **settings: Any) -> Any:
        if mode == "x":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open_(path, mode, **settings)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"\.lease\.2 cannot be written \(No space left"), locked(tmp_path):
        pass


def test_a_process_that_is_another_users_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not Owner.this(locks=False).gone(free=False)
