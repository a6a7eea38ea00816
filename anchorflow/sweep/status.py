"""The state of runs, as their directories and SLURM tell it: `anchorflow status`."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from anchorflow.errors import UserError
from anchorflow.results import counted, read_status, runs_below
from anchorflow.runs.rundir import SHARDS, RunDirectory, State
from anchorflow.sweep import slurm

WATCH_INTERVAL_S = 5.0
UNFINISHED = ("queued", "running")
FIRST = ("running", "queued", "failed", "cancelled", "lost", "preempted", "new")
"""Of several shards the state that the run is said to have."""


class Jobs:
    """Which SLURM jobs live, and how others ended. SLURM is asked once for each, and only if a run names a job."""

    def __init__(self) -> None:
        self._ended: dict[str, str | None] = {}
        self._processes: dict[str, bool] = {}

    @cached_property
    def _alive(self) -> Mapping[str, str] | None:
        return slurm.alive()

    def alive(self, job: str) -> bool:
        """Whether it waits or runs. Where SLURM gives no answer it is believed to."""
        return self._alive is None or job in self._alive

    def process(self, job: str, status: Mapping[str, Any]) -> bool:
        """Whether a job that is a process of one machine lives. On another machine it is believed to."""
        if status.get("host") != socket.gethostname():
            return True
        if job not in self._processes:  # a number alone may be another process's by now
            self._processes[job] = "submitit" in (slurm.ask("ps", "-p", job, "-o", "command=") or "")
        return self._processes[job]

    def reason(self, job: str) -> str:
        """Why it waits."""
        return (self._alive or {}).get(job, "unknown")

    def ended_as(self, job: str) -> str | None:
        """How one that lives no more has ended, if SLURM knows. The runs of a pack share their job."""
        if job not in self._ended:
            self._ended[job] = slurm.ended_as(job)
        return self._ended[job]


class Found(NamedTuple):
    """A run as it is. `state` is new where nothing is known, lost where its status says running but nobody works on it."""

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
        """Why it is as it is: the error, or where it was lost."""
        if self.state == "lost":
            return f"its process is gone ({self.where}{self._ended})"
        if self.state == "preempted":
            return "its allocation ended, or it was stopped; it goes on from its records"
        return str(self.status.get("error") or "")

    @property
    def _ended(self) -> str:
        job = self.status.get("job_id")
        reason = self.jobs.ended_as(str(job)) if job else None
        return f": {reason}" if reason else ""


def look(folder: Path, jobs: Jobs) -> Found:
    """What has become of the run in `folder`, its shards taken together."""
    try:
        if _looks_whole(folder / "result.json") or RunDirectory(folder).result() is not None:
            return Found(folder, "completed", read_status(folder), jobs)
    except UserError as error:
        return Found(folder, "failed", {**read_status(folder), "error": str(error)}, jobs)
    parts = [_look(part, jobs) for part in (folder, *sorted((folder / SHARDS).glob("*-of-*")))]
    shown = min(parts, key=lambda part: FIRST.index(part.state))
    status = shown.status if len(parts) == 1 else {**shown.status, **_sums(parts[1:])}
    return Found(folder, shown.state, status, jobs)


def show(paths: Sequence[Path], watch: bool = False, as_json: bool = False) -> int:
    """Print a line for every run at or below the paths, or all of them as JSON; with `watch` again and again, until none
    is queued or running.
    """
    while True:
        jobs = Jobs()
        found = [look(folder, jobs) for folder in runs_below(paths)]
        if watch and sys.stdout.isatty():
            sys.stdout.write("\033[2J\033[H")
        if as_json:
            print(json.dumps(to_json(found), indent=2, ensure_ascii=False))
        else:
            print("\n".join(report(found)) or f"no runs in {', '.join(map(str, paths))}")
        sys.stdout.flush()
        if not watch or not any(one.state in UNFINISHED for one in found):
            return 0
        time.sleep(WATCH_INTERVAL_S)


def report(found: Sequence[Found]) -> list[str]:
    """A table of these runs, each error whole on lines of its own, how many there are of each state, and the time left."""
    if not found:
        return []
    apart = _apart([one.folder for one in found])
    rows = [["run", "state", "job, machine", "progress", "per s", "left", "requeues"]]
    for one in found:
        status, progress = one.status, one.status.get("progress") or {}
        total = progress.get("total")
        running = one.state == "running"
        rows.append(
            [
                " ".join(["/".join(one.folder.parts[-4:]), *apart[one.folder]]),
                one.state,
                one.where,
                f"{progress.get('done', 0)}/{total if total is not None else '?'}" if progress else "",
                f"{status['queries_per_s']:.2f}" if running and status.get("queries_per_s") else "",
                duration(status["left_s"]) if running and status.get("left_s") is not None else "",
                str(status.get("requeues") or ""),
            ]
        )
    counts = Counter(one.state for one in found)
    heading, *lines = columns(rows, left=3)
    table = [heading]
    for one, line in zip(found, lines, strict=True):
        table += [line, *(f"    {reason}" for reason in one.why.splitlines())]
    whole = f"{counted(len(found), 'run')}: " + ", ".join(f"{n} {state}" for state, n in counts.most_common())
    left = left_s(found)
    return [*table, whole + ("" if left is None else f"; about {duration(left)} left")]


def to_json(found: Sequence[Found]) -> dict[str, Any]:
    """The same for programs: JSON's types."""
    runs = [
        {
            **{key: one.status.get(key) for key in ("job_id", "host", "progress", "queries_per_s", "requeues")},
            "run": str(one.folder),
            "state": one.state,
            "why": one.why or None,
            "left_s": one.status.get("left_s") if one.state == "running" else None,
        }
        for one in found
    ]
    return {"runs": runs, "counts": dict(Counter(one.state for one in found)), "left_s": left_s(found)}


def left_s(found: Sequence[Found]) -> float | None:
    """Seconds until all that is queued or running is done, at the pace of what is complete; None where nothing tells."""
    running = [one for one in found if one.state == "running"]
    waiting = sum(one.state == "queued" for one in found)
    known = [float(one.status["left_s"]) for one in running if one.status.get("left_s") is not None]
    took = [seconds for one in found if one.state == "completed" and (seconds := _took(one.status)) is not None]
    if (not running and not waiting) or len(known) < len(running) or (waiting and not took):
        return None
    each = sum(took) / len(took) if took else 0.0
    return max(max(known, default=0.0), (sum(known) + waiting * each) / max(1, len(running)))


def _took(status: Mapping[str, Any]) -> float | None:
    try:
        began, ended = (datetime.fromisoformat(str(status[key]).rstrip("Z")) for key in ("started", "updated"))
    except (KeyError, ValueError):
        return None
    return (ended - began).total_seconds()


def _apart(folders: Sequence[Path]) -> dict[Path, list[str]]:
    """Of runs that differ in more than experiment, model, dataset and seed, the settings that tell each from the others."""
    alike: dict[tuple[Path, str], list[Path]] = {}
    for folder in folders:
        alike.setdefault((folder.parent, folder.name.partition("-")[0]), []).append(folder)
    found: dict[Path, list[str]] = {folder: [] for folder in folders}
    for together in alike.values():
        if len(together) > 1:
            told = {folder: _told(folder) for folder in together}
            shared = set.intersection(*(set(of_run) for of_run in told.values()))
            found |= {folder: [each for each in of_run if each not in shared] for folder, of_run in told.items()}
    return found


def _told(folder: Path) -> list[str]:
    """The overrides that a run was started with."""
    try:
        lines = (folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.removeprefix("- ").strip("'\"") for line in lines if line.startswith("- ")]


def _looks_whole(result: Path) -> bool:
    """Whether a result is there from its first line to its last: to read all of each would take a report's time."""
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


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The rows as lines; the first `left` columns are flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    justified = [
        [text.ljust(w) if i < left else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in justified]


def duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def _look(folder: Path, jobs: Jobs) -> Found:
    status = read_status(folder)
    state = status.get("state", "new")
    if state == "completed":  # a shard; or a run whose result was deleted
        state = "preempted"
    if state == "queued":
        given, here = _jobs_of(status)
        waits_for = [job for job in given if (jobs.process(job, status) if here else jobs.alive(job))]
        ended = {} if waits_for else {job: None if here else jobs.ended_as(job) for job in given}
        cancelled = any(str(how).startswith("CANCELLED") for how in ended.values())
        state = "queued" if waits_for else "cancelled" if cancelled else "new"
        job = ", ".join(job if here else f"{job} ({jobs.reason(job)})" for job in waits_for)
        status = {**status, "job_id": job, "host": None}  # the host is the one that it was submitted from
        if ended:
            said = ", ".join(f"job {job}{f' ({how})' if how else ''}" for job, how in ended.items())
            logs = Path(str(status["sweep"])).parent / "jobs"
            status["error"] = f"{said} ended before this run began; see {logs}"
    if state == "running" and not _at_work(folder, status, jobs):
        state = "lost"
    return Found(folder, state, status, jobs)


def _at_work(folder: Path, status: Mapping[str, Any], jobs: Jobs) -> bool:
    """Whether there is somebody who works on a run that says so."""
    if status.get("job_id"):
        return jobs.alive(str(status["job_id"]))
    if status.get("host") != socket.gethostname():
        return True  # another machine's processes are not ours to see
    try:
        with (folder / ".lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # held by the process that works there
    return False


def _jobs_of(status: Mapping[str, Any]) -> tuple[list[str], bool]:
    """The jobs that a queued run waits for, from the plan of its sweep, and whether they are processes, not SLURM's."""
    try:
        submitted = json.loads(Path(str(status.get("sweep"))).read_text(encoding="utf-8"))
        jobs = [job for job in (submitted["packs"][pack]["job_id"] for pack in status["packs"]) if job]
        return jobs, submitted["launcher"] == "submitit_local"
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return [], False


def _sums(shards: Sequence[Found]) -> dict[str, Any]:
    """The progress and rate of all shards; the time left of the slowest."""
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
