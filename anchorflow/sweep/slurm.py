"""Query SLURM about its jobs and itself. Every query has a time limit and a fallback."""

import contextlib
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator

from anchorflow.runs import State

PATIENCE_S = 20
NEVER_BEGUN = str(2**32 - 2)
"""SLURM's notation for the task number of pending array tasks that were cancelled."""


SITE = ("account", "partition", "qos", "constraint")
"""Settings that users may set for all their jobs as SBATCH_ACCOUNT, ...; they apply if the launcher has no value."""


def defaults() -> dict[str, str]:
    """The user's defaults for jobs, from the environment."""
    return {key: os.environ[name] for key in SITE if os.environ.get(name := f"SBATCH_{key.upper()}")}


@contextlib.contextmanager
def clean_environment() -> Iterator[None]:
    """Within the block, hide the resources of the surrounding job (memory, tasks, ...) from the jobs of a sweep."""
    from submitit.helpers import clean_env

    kept = {name: os.environ[name] for name in ("SLURM_CONF", "SLURM_CLUSTERS") if name in os.environ}
    with clean_env():
        os.environ.update(kept)
        yield


def ask(*command: str) -> str | None:
    """The output of a command; None if it fails, takes too long or does not exist.

    Variables of the user that change the output (SQUEUE_PARTITION, ...) are ignored.
    """
    own = ("SQUEUE_", "SINFO_", "SACCT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def installed() -> bool:
    """Whether SLURM's commands exist here."""
    return shutil.which("squeue") is not None


def alive(user: int | None = None) -> dict[str, str] | None:
    """The jobs of a user (default: this one) by id, with why each waits (Priority, ...; empty if started); None if unknown.

    A task of an array is called 12_3, as in status.json.
    """
    who = str(os.getuid() if user is None else user)
    found = ask("squeue", "--all", "--noheader", "--array", "--user", who, "--format", "%i %T %r")
    if found is None:
        return None
    jobs = (line.split(maxsplit=2) for line in found.splitlines())
    return {job: _waits(state, *reason) for job, state, *reason in jobs}


def _waits(state: str, reason: str = "None") -> str:
    if state != "PENDING":
        return ""
    return "Pending" if reason == "None" else reason


def private() -> bool:
    """Whether this cluster hides the jobs of other users."""
    found = re.search(r"PrivateData\s*=\s*(\S+)", ask("scontrol", "show", "config") or "")
    return found is not None and "jobs" in found.group(1).split(",")


def ended_as(job: str) -> str | None:
    """The final state of a job (FAILED, TIMEOUT, NODE_FAIL, ...), while SLURM remembers it."""
    array = job.partition("_")[0]
    for record in (_shown(job), *(one for one in _records(array) if one.get("ArrayTaskId") == NEVER_BEGUN)):
        if "JobState" in record:
            return record["JobState"]
    known = ask("sacct", "--noheader", "--parsable2", "--allocations", "--jobs", job, "--format", "State") or ""
    return known.split()[0] if known.strip() else None  # "CANCELLED by 0"


def stop_state() -> State:
    """The state of this job's run after SIGTERM: cancelled if someone cancelled the job, else preempted.

    The job's state is COMPLETING in both cases, but a requeued job has one more restart than before.
    """
    shown = _shown(os.environ.get("SLURM_JOB_ID", ""))
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    comes_back = int(shown.get("Restarts", 0)) > restarts or shown.get("PreemptTime", "None") != "None"
    ends = shown.get("JobState") in ("COMPLETING", "CANCELLED") and not _timed_out(shown)
    return "cancelled" if ends and not comes_back else "preempted"


def out_of_time() -> bool:
    """Whether SLURM ends this job because its time is up."""
    return _timed_out(_shown(os.environ.get("SLURM_JOB_ID", "")))


def _timed_out(shown: dict[str, str]) -> bool:
    return shown.get("Reason") == "TimeLimit"


def _shown(job: str) -> dict[str, str]:
    """The output of `scontrol show job` for a job; empty if it is unknown."""
    return next(iter(_records(job)), {})


def _records(job: str) -> list[dict[str, str]]:
    """The records of a job; an array has one per started task, and one for the rest."""
    found = (ask("scontrol", "--oneliner", "show", "job", job) or "" if job else "").splitlines()
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in found]


def partitions() -> dict[str, float]:
    """The time limit in minutes of each partition of the cluster; the name of the default one ends in *."""
    lines = (ask("sinfo", "--noheader", "--format", "%P %l") or "").splitlines()
    return {name: _minutes(limit) for name, limit in sorted(line.split() for line in lines)}


def _minutes(limit: str) -> float:
    """Minutes from days-hours:minutes:seconds without leading zero parts; infinity for other words."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in (days or "0", *parts)):
        return math.inf
    seconds, minutes, hours, *_ = *(int(part) for part in reversed(parts)), 0, 0
    return (int(days or 0) * 24 + hours) * 60 + minutes + seconds / 60


def largest_array() -> int:
    """The largest number of tasks in an array."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
    return int(found.group(1)) - 1 if found else 1000


NODE = ("gpus_per_node", "cpus_per_task", "mem_gb")
"""The known properties of a node, by the launcher's names."""


def nodes() -> dict[str, list[dict[str, float]]]:
    """The resources of each kind of node, by partition; empty if SLURM does not answer."""
    lines = (ask("sinfo", "--noheader", "--exact", "--format", "%R|%c|%m|%G") or "").splitlines()
    found: dict[str, list[dict[str, float]]] = {}
    for partition, cores, megabytes, devices in (line.strip().split("|") for line in lines):
        gpus = sum(map(int, re.findall(r"gpu:(?:[^:,(]+:)?(\d+)", devices)))
        found.setdefault(partition, []).append(
            dict(zip(NODE, (float(gpus), float(cores), float(megabytes) / 1024), strict=True))
        )
    return found
