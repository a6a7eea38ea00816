"""Whether a run is queued, alive, lost or over, from its directory, its lock and SLURM."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from anchorflow.errors import UserError
from anchorflow.results import read_status
from anchorflow.runs.lock import held, lives
from anchorflow.runs.rundir import SHARDS, RunDirectory, State
from anchorflow.sweep import slurm

FIRST = ("running", "queued", "failed", "cancelled", "lost", "preempted", "new")
"""The state of a run with shards: the first of these that a shard has."""


class Jobs:
    """Which jobs are alive, and how others ended. SLURM is queried once per user and job, and only if a run names one."""

    def __init__(self) -> None:
        self._living: dict[int, Mapping[str, str] | None] = {}
        self._ended: dict[str, str | None] = {}
        self._processes: dict[str, bool] = {}
        self._plans: dict[str, Any] = {}
        self._private: bool | None = None

    def alive(self, job: str, user: int | None = None) -> bool:
        """Whether a job of `user` or of this user waits or runs; assumed to be true if SLURM does not answer."""
        return self._reason(job, user) is not None or not self._shown(user)

    def waits(self, job: str, user: int | None = None) -> bool:
        """Whether a job waits, according to SLURM."""
        return bool(self._reason(job, user))

    def reason(self, job: str, user: int | None = None) -> str:
        """Why a job waits, or that it runs."""
        reason = self._reason(job, user)
        return "unknown" if reason is None else reason or "running"

    def process(self, job: str, status: Mapping[str, Any], folder: Path) -> bool:
        """Whether a job that is a local process is alive. From another machine, the lock of its sweep's `folder` decides."""
        if status.get("host") != socket.gethostname():
            return lives(folder)
        if job not in self._processes:  # a pid may have been reused by another process
            self._processes[job] = "submitit" in (slurm.ask("ps", "-p", job, "-o", "command=") or "")
        return self._processes[job]

    def of(self, status: Mapping[str, Any]) -> tuple[list[str], bool]:
        """The jobs of a run, from the plan of its sweep, and whether they are local processes instead of SLURM jobs."""
        path = str(status.get("sweep"))
        try:
            if path not in self._plans:  # shared by the runs of a sweep
                self._plans[path] = json.loads(Path(path).read_text(encoding="utf-8"))
            submitted = self._plans[path]
            jobs = [job for job in (submitted["packs"][pack]["job_id"] for pack in status["packs"]) if job]
            return jobs, submitted["launcher"] == "submitit_local"
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return [], False

    def ended_as(self, job: str) -> str | None:
        """How a dead job ended, if SLURM knows. The runs of a pack share their job."""
        if job not in self._ended:
            self._ended[job] = slurm.ended_as(job)
        return self._ended[job]

    def _reason(self, job: str, user: int | None) -> str | None:
        for one in self._users(user):
            if (reason := (self._living_of(one) or {}).get(job)) is not None:
                return reason
        return None

    def _shown(self, user: int | None) -> bool:
        """Whether SLURM would list the user's job if it existed."""
        users = self._users(user)
        if any(self._living_of(one) is None for one in users):
            return False
        if len(users) > 1 and self._private is None:
            self._private = slurm.private()
        return len(users) == 1 or not self._private

    def _living_of(self, user: int) -> Mapping[str, str] | None:
        if user not in self._living:
            self._living[user] = slurm.alive(user)
        return self._living[user]

    @staticmethod
    def _users(user: int | None) -> list[int]:
        this = os.getuid()
        return [this] if user is None or user == this else [this, user]


class Found(NamedTuple):
    """The current state of a run: `new` if nothing is known, `lost` if its status says running but no process works on it."""

    folder: Path
    state: State | Literal["new", "lost"]
    status: Mapping[str, Any]
    jobs: Jobs

    @property
    def where(self) -> str:
        """The job and the machine."""
        job, host = self.status.get("job_id"), self.status.get("host")
        return ", ".join(str(part) for part in (job and f"job {job}", host) if part) or "–"

    @property
    def why(self) -> str:
        """The reason for the state: the error, or where the run was lost."""
        if self.state == "lost":
            return f"its process is gone ({self.where}{self._ended})"
        if self.state == "preempted":
            return "its allocation ended, or it was stopped; run the same command again to resume it"
        return str(self.status.get("error") or "")

    @property
    def _ended(self) -> str:
        job = self.status.get("job_id")
        reason = self.jobs.ended_as(str(job)) if job else None
        return f": {reason}" if reason else ""


def look(folder: Path, jobs: Jobs) -> Found:
    """The current state of the run in `folder`, including its shards."""
    try:
        if _looks_whole(folder / "result.json") or RunDirectory(folder).result() is not None:
            return Found(folder, "completed", read_status(folder), jobs)
    except UserError as error:
        return Found(folder, "failed", {**read_status(folder), "error": str(error)}, jobs)
    parts = [_look(part, jobs) for part in (folder, *sorted((folder / SHARDS).glob("*-of-*")))]
    shown = min(parts, key=lambda part: FIRST.index(part.state))
    status = shown.status if len(parts) == 1 else {**shown.status, **_sums(parts[1:])}
    return Found(folder, shown.state, status, jobs)


def _look(folder: Path, jobs: Jobs) -> Found:
    status = read_status(folder)
    state = status.get("state", "new")
    if state not in ("queued", "running", "preempted"):
        # "Completed" is a shard, or a run whose result was deleted: no process works on it.
        return Found(folder, "preempted" if state == "completed" else state, status, jobs)
    user = _owner(folder)
    if state == "running" and _works(folder, status, jobs, user):
        return Found(folder, "running", status, jobs)
    own, here = jobs.of(status)
    if here:
        plan = Path(str(status["sweep"])).parent
        coming = {job: job for job in own if jobs.process(job, status, plan)}
    else:
        coming = {job: f"{job} ({jobs.reason(job, user)})" for job in own if _comes(job, state, jobs, user)}
        job = str(status.get("job_id") or "")
        if job and jobs.waits(job, user):  # requeued: it restarts its current cell
            coming.setdefault(job, f"{job} ({jobs.reason(job, user)})")
    if coming:  # the host in the status is that of the submission or of an earlier attempt
        return Found(folder, "queued", {**status, "job_id": ", ".join(coming.values()), "host": None}, jobs)
    if state == "queued":
        return _never_begun(folder, status, own, here, jobs)
    return Found(folder, "lost" if state == "running" else state, status, jobs)


def _works(folder: Path, status: Mapping[str, Any], jobs: Jobs, user: int | None) -> bool:
    """Whether a process really works on a run with the status running: its job is alive, or its lock is held."""
    job = status.get("job_id")
    return lives(folder) and (not job or held(folder) is True or jobs.alive(str(job), user))


def _comes(job: str, state: str, jobs: Jobs, user: int | None) -> bool:
    """Whether a job of its sweep will run it. Without SLURM, a run that has started may be taken over."""
    return jobs.alive(job, user) if state == "queued" or slurm.installed() else False


def _never_begun(folder: Path, status: Mapping[str, Any], own: Sequence[str], here: bool, jobs: Jobs) -> Found:
    ended = {job: None if here else jobs.ended_as(job) for job in own}
    cancelled = any(str(how).startswith("CANCELLED") for how in ended.values())
    status = {**status, "job_id": "", "host": None}
    if ended:
        said = ", ".join(f"job {job}{f' ({how})' if how else ''}" for job, how in ended.items())
        logs = Path(str(status["sweep"])).parent / "jobs"
        status["error"] = f"{said} ended before this run began; see {logs}"
    return Found(folder, "cancelled" if cancelled else "new", status, jobs)


def _owner(folder: Path) -> int | None:
    """The user id of the run's jobs: the owner of its status."""
    try:
        return (folder / "status.json").stat().st_uid
    except OSError:
        return None


def _sums(shards: Sequence[Found]) -> dict[str, Any]:
    """The total progress and rate of all shards, and the time left of the slowest."""
    progress = [shard.status.get("progress") or {} for shard in shards]
    totals = [part.get("total") for part in progress]
    running = [shard.status for shard in shards if shard.state == "running"]
    left = [status["left_s"] for status in running if status.get("left_s") is not None]
    return {
        "progress": {
            "done": sum(part.get("done", 0) for part in progress),
            "total": None if None in totals else sum(totals),
        },
        "queries_per_s": sum(status.get("queries_per_s", 0) for status in running),
        "left_s": max(left, default=None),
    }


def _looks_whole(result: Path) -> bool:
    """Whether a result exists with its first and last line; parsing every result would take too long."""
    try:
        with result.open("rb") as file:
            start = file.read(4096)
            file.seek(-min(len(start), 16), os.SEEK_END)
            return (
                b'"identity"' in start
                and (len(start) == 4096 or b'"metrics"' in start)
                and file.read().rstrip().endswith(b"}")
            )
    except OSError:
        return False
