"""A run's directory: records, status and result. Finished work is never lost."""

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from anchorflow.errors import UserError
from anchorflow.results import Record, dumps, read_status, write_atomically
from anchorflow.runs.lock import Lease, locked

log = logging.getLogger(__name__)
State = Literal["queued", "running", "completed", "failed", "preempted", "cancelled"]
STATUS_INTERVAL_S = 2.0
SHARDS = "shards"


class RunDirectory:
    """`records.jsonl`, `status.json` and `result.json` of one run.

    `key` is the field of a record that identifies its unit ("query").
    """

    def __init__(self, path: Path, key: str = "query") -> None:
        self.path = path
        self.key = key
        self._started = time.time()
        self._written = 0.0
        self._claimed = False
        self._status: dict[str, Any] = {}
        self._lease: Lease | None = None

    @property
    def run(self) -> Path:
        """The directory of the run: this one, or the parent of a shard's."""
        return self.path.parents[1] if self.path.parent.name == SHARDS else self.path

    def shard(self, number: int, of: int) -> "RunDirectory":
        """The directory of a shard of this run; created if it does not exist."""
        path = self.path / SHARDS / f"{number}-of-{of}"
        path.mkdir(parents=True, exist_ok=True)
        return RunDirectory(path, self.key)

    def shards_complete(self, of: int) -> bool:
        """Whether all shards have ended."""
        states = [read_status(self.path / SHARDS / f"{number}-of-{of}").get("state") for number in range(1, of + 1)]
        return all(state == "completed" for state in states)

    def elsewhere(self) -> list[Record]:
        """Records of this run in other directories: those of its shards, or of the run before it was sharded."""
        whole = RunDirectory(self.run, self.key)
        others = [RunDirectory(path, self.key) for path in sorted((self.run / SHARDS).glob("*-of-*"))]
        return [record for one in (whole, *others) if one.path != self.path for record in one.records(tidy=False)]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory for this process; the status keeps its fields about the sweep that submitted the run."""
        with locked(self.path) as self._lease:
            before = read_status(self.path)
            self._status = {key: before[key] for key in ("sweep", "packs") if key in before}
            try:
                yield
            finally:
                self._lease = None

    def result(self) -> dict[str, Any] | None:
        """The result if the run is complete, else None. UserError if it is damaged."""
        path = self.path / "result.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict) or not {"identity", "metrics"} <= found.keys():
                raise ValueError("it has no identity or no metrics")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is damaged ({error}); delete it, and the run resumes from its records.") from error
        return found

    def claim(self, identity: str) -> None:
        """Claim the directory for the run `identity`. UserError if it belongs to another run."""
        owner = self.path / ".identity"  # a separate file: status.json is for people
        try:
            found: str | None = owner.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:  # copied without hidden files; a result contains its identity
            found = (self.result() or {}).get("identity")
        if self._occupied() and found != identity:
            raise UserError(
                f"{self.path} holds records of another run ({found}, this one is {identity}): its seed, settings, data or "
                "weights differ. Choose another hydra.run.dir, or delete that directory."
            )
        write_atomically(owner, identity + "\n")
        self._claimed = True
        self._status["identity"] = identity

    def records(self, tidy: bool = True) -> list[Record]:
        """All complete records, one per unit. UserError for a damaged one.

        A last line that a kill cut off is removed (`tidy`), or only skipped, because another process may be writing it.
        """
        path = self.path / "records.jsonl"
        if not path.exists():
            return []
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if tidy and len(whole) < len(content):
            log.info("removing the last record, which was cut off")
            os.truncate(path, len(whole))
        found: dict[Any, Record] = {}
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = json.loads(line)
                found.setdefault(record[self.key], record)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}, line {number} is damaged ({error}); delete that line, and its record is computed again."
                ) from error
        return list(found.values())

    def append(self, records: Sequence[Record]) -> None:
        """Append records to the file. UserError if another process has taken over in the meantime."""
        if self._taken_over:
            raise UserError(f"another process has taken over {self.path} because this one was silent for too long.")
        lines = "".join(dumps(record) + "\n" for record in records).encode()
        with (self.path / "records.jsonl").open("ab") as file:
            file.write(lines)

    def rewrite(self, records: Sequence[Record]) -> None:
        """Replace all records by these, atomically."""
        write_atomically(self.path / "records.jsonl", "".join(dumps(record) + "\n" for record in records))

    def report(self, state: State, *, force: bool = True, **fields: Any) -> None:
        """Update `status.json`; without `force` at most every two seconds."""
        now = time.time()
        self._status.update(fields)
        if not force and now - self._written < STATUS_INTERVAL_S:
            return
        self._written = now
        status = {
            "state": state,
            **self._status,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "job_id": slurm_job(),
            "requeues": int(os.environ.get("SLURM_RESTART_COUNT", 0)),
            "started": _iso(self._started),
            "updated": _iso(now),
        }
        write_atomically(self.path / "status.json", dumps(status, indent=2) + "\n")

    def progress(self, done: int, total: int, rate: float) -> None:
        """Update `status.json` while records are computed; `rate` is in records per second."""
        left = round((total - done) / rate, 1) if rate else None
        progress = {"done": done, "total": total}
        self.report("running", force=False, progress=progress, queries_per_s=round(rate, 3), left_s=left)

    def report_end(self, state: State, **fields: Any) -> None:
        """Record the state of a run that ends early, unless the directory belongs to another or a complete run."""
        if not self._taken_over and (self._claimed or not self._occupied()):
            with contextlib.suppress(OSError):  # the error that ends the run is reported elsewhere
                self.report(state, **fields)

    def complete(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`: from now on the run counts as complete."""
        write_atomically(self.path / "result.json", dumps(result, indent=2) + "\n")

    def has_started(self) -> bool:
        """Whether a process works or worked here; a run that was refused earlier has the status `failed` and no progress."""
        status = read_status(self.path)
        refused = status.get("state", "failed") == "failed" and "progress" not in status
        return self._occupied() or (self.path / SHARDS).exists() or not refused

    @property
    def _taken_over(self) -> bool:
        return self._lease is not None and self._lease.lost

    def _occupied(self) -> bool:
        return any((self.path / name).exists() for name in ("records.jsonl", "result.json"))


def slurm_job() -> str | None:
    """The SLURM job of this process, as named by squeue; None outside of a job."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ.get("SLURM_JOB_ID"))
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{task}" if job and task else job


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
