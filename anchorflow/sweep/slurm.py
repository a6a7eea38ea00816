"""What SLURM says of its jobs and itself. Every question has a time limit and an answer for when there is none."""

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
"""What SLURM writes for the number of an array's tasks that were cancelled while they waited."""


SITE = ("account", "partition", "qos", "constraint")
"""What users set for all their jobs as SBATCH_ACCOUNT, ...: it holds where the launcher says nothing."""


def defaults() -> dict[str, str]:
    """The user's own defaults of what a job is given."""
    return {key: os.environ[name] for key in SITE if os.environ.get(name := f"SBATCH_{key.upper()}")}


@contextlib.contextmanager
def clean_environment() -> Iterator[None]:
    """What the job has that a sweep is launched in (its memory, tasks, ...) is not handed on to the jobs of the sweep."""
    from submitit.helpers import clean_env

    kept = {name: os.environ[name] for name in ("SLURM_CONF", "SLURM_CLUSTERS") if name in os.environ}
    with clean_env():
        os.environ.update(kept)
        yield


def ask(*command: str) -> str | None:
    """The command's output; None where it fails, takes too long or is not there.

    What the user's environment makes of its output (SQUEUE_PARTITION, ...) does not count.
    """
    own = ("SQUEUE_", "SINFO_", "SACCT_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def installed() -> bool:
    """Whether SLURM can be asked here at all."""
    return shutil.which("squeue") is not None


def alive(user: int | None = None) -> dict[str, str] | None:
    """Why each of a user's jobs waits (Priority, Resources, ...), by id; nothing for one that has begun. None if nobody knows.

    The user is this one unless named. A task of an array is called 12_3, as in status.json.
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
    """What SLURM says of a job that has ended (FAILED, TIMEOUT, NODE_FAIL, ...), while it remembers."""
    array = job.partition("_")[0]
    for record in (_shown(job), *(one for one in _records(array) if one.get("ArrayTaskId") == NEVER_BEGUN)):
        if "JobState" in record:
            return record["JobState"]
    known = ask("sacct", "--noheader", "--parsable2", "--allocations", "--jobs", job, "--format", "State") or ""
    return known.split()[0] if known.strip() else None  # "CANCELLED by 0"


def stop_state() -> State:
    """What becomes of this job's run at SIGTERM: cancelled if somebody said so, else preempted.

    The job's state says COMPLETING either way. One that comes back has a restart more than it was begun with.
    """
    shown = _shown(os.environ.get("SLURM_JOB_ID", ""))
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    comes_back = int(shown.get("Restarts", 0)) > restarts or shown.get("PreemptTime", "None") != "None"
    ends = shown.get("JobState") in ("COMPLETING", "CANCELLED") and not _timed_out(shown)
    return "cancelled" if ends and not comes_back else "preempted"


def out_of_time() -> bool:
    """Whether SLURM ends this job because its time is over."""
    return _timed_out(_shown(os.environ.get("SLURM_JOB_ID", "")))


def _timed_out(shown: dict[str, str]) -> bool:
    return shown.get("Reason") == "TimeLimit"


def _shown(job: str) -> dict[str, str]:
    """What `scontrol show job` prints of a job; empty where it knows nothing."""
    return next(iter(_records(job)), {})


def _records(job: str) -> list[dict[str, str]]:
    """Of an array one for each task that has begun, and one for the rest."""
    found = (ask("scontrol", "--oneliner", "show", "job", job) or "" if job else "").splitlines()
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in found]


def partitions() -> dict[str, float]:
    """The minutes that a job may take in each of the cluster's partitions; the default one's name ends in *."""
    lines = (ask("sinfo", "--noheader", "--format", "%P %l") or "").splitlines()
    return {name: _minutes(limit) for name, limit in sorted(line.split() for line in lines)}


def _minutes(limit: str) -> float:
    """Of days-hours:minutes:seconds, of which what is zero in front may be missing; infinity for other words."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in (days or "0", *parts)):
        return math.inf
    seconds, minutes, hours, *_ = *(int(part) for part in reversed(parts)), 0, 0
    return (int(days or 0) * 24 + hours) * 60 + minutes + seconds / 60


def largest_array() -> int:
    """Tasks that one array may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
    return int(found.group(1)) - 1 if found else 1000


NODE = ("gpus_per_node", "cpus_per_task", "mem_gb")
"""What is known of a node, by the launcher's names."""


def nodes() -> dict[str, list[dict[str, float]]]:
    """By partition what each kind of its nodes has; empty where SLURM does not say."""
    lines = (ask("sinfo", "--noheader", "--exact", "--format", "%R|%c|%m|%G") or "").splitlines()
    found: dict[str, list[dict[str, float]]] = {}
    for partition, cores, megabytes, devices in (line.strip().split("|") for line in lines):
        gpus = sum(map(int, re.findall(r"gpu:(?:[^:,(]+:)?(\d+)", devices)))
        found.setdefault(partition, []).append(
            dict(zip(NODE, (float(gpus), float(cores), float(megabytes) / 1024), strict=True))
        )
    return found
