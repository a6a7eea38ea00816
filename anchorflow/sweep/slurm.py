"""What SLURM says of its jobs and itself. Every question has a time limit and an answer for when there is none."""

import getpass
import os
import re
import subprocess
from collections.abc import Sequence

from anchorflow.rundir import State

PATIENCE_S = 20


def ask(*command: str) -> str | None:
    """The command's output; None where it fails, takes too long or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def alive() -> dict[str, str] | None:
    """The state (PENDING, RUNNING, ...) of each of the user's jobs that has not ended, by id; None if nobody knows.

    A task of an array is called 12_3, as in status.json.
    """
    found = ask("squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i %T")
    return None if found is None else dict(line.split(maxsplit=1) for line in found.splitlines())


def ended_as(job: str) -> str | None:
    """What SLURM says of a job that has ended (FAILED, TIMEOUT, NODE_FAIL, ...), while it remembers."""
    for line in (ask("scontrol", "--oneliner", "show", "job", job) or "").splitlines():
        state = re.search(r"\bJobState=(\S+)", line)
        if state:
            return state.group(1)
    known = ask("sacct", "--noheader", "--parsable2", "--allocations", "--jobs", job, "--format", "State") or ""
    return known.split()[0] if known.strip() else None  # "CANCELLED by 0"


def stop_state() -> State:
    """What becomes of this job's run at SIGTERM: cancelled if somebody said so, else preempted."""
    job = os.environ.get("SLURM_JOB_ID")
    return "cancelled" if job and (ended_as(job) or "").startswith("CANCELLED") else "preempted"


def partitions() -> Sequence[str]:
    """The names of the cluster's partitions; the default one ends in *."""
    return sorted(set((ask("sinfo", "--noheader", "--format", "%P") or "").split()))


def largest_array() -> int:
    """Tasks that one array may have."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config") or "")
    return int(found.group(1)) - 1 if found else 1000
