"""Allow one process at a time in a directory, and detect whether it is alive: with a lock if possible, always with a lease.

A lock ends with its process, but some file systems have no locks, and some hide those of other machines. The process
therefore also keeps a lease: a file that names it and that it touches while it lives. Leases are numbered and the highest
counts. A new lease is created and never replaces another, so exactly one of several processes gets it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from anchorflow.errors import UserError

log = logging.getLogger(__name__)
BEAT_S = 15.0
"""Seconds between touches of a lease."""
SILENCE_S = 180.0
"""Seconds without a touch after which a process that cannot be observed otherwise counts as dead."""
PATIENCE_S = 1.0
"""Seconds to retry a lock: a process that tests it holds it for a moment."""


@dataclass(frozen=True)
class Owner:
    """The process that owns a lease. Processes with the same `kernel` and `pids` (namespace) see its locks and its pid."""

    host: str
    pid: int
    kernel: str
    pids: str
    locks: bool
    job: str
    restarts: int

    @classmethod
    def this(cls, locks: bool) -> Owner:
        """This process; `locks`: whether it also holds a lock."""
        kernel, pids = socket.gethostname(), ""
        with contextlib.suppress(OSError):
            kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            pids = str(Path("/proc/self/ns/pid").readlink())
        job, restarts = os.environ.get("SLURM_JOB_ID", ""), int(os.environ.get("SLURM_RESTART_COUNT", 0))
        return cls(socket.gethostname(), os.getpid(), kernel, pids, locks, job, restarts)

    def gone(self, free: bool) -> bool:
        """Whether this process can tell that the owner is dead; `free`: the lock is not held."""
        here = Owner.this(free)
        if self.job and self.job == here.job and self.restarts < here.restarts:  # SLURM ended the job and restarted it
            return True
        if self.kernel != here.kernel:
            return False
        return (free and self.locks) or (self.pids == here.pids and not _exists(self.pid))

    def seen(self) -> bool:
        """Whether this process can observe its end."""
        here = Owner.this(False)
        return (self.kernel, self.pids) == (here.kernel, here.pids)


class Lease:
    """A file that its process touches while it lives."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self.path = folder / f".lease.{number}"
        self._ended = threading.Event()

    @classmethod
    def latest(cls, folder: Path) -> Lease | None:
        """The current lease; None if no process has worked here."""
        numbers = [int(path.suffix[1:]) for path in folder.glob(".lease.*") if path.suffix[1:].isdigit()]
        return cls(folder, max(numbers)) if numbers else None

    @property
    def lost(self) -> bool:
        """Whether another process has taken over because this one was silent for too long."""
        latest = Lease.latest(self.folder)
        return latest is not None and latest.number > self.number

    def owner(self) -> Owner | None:
        """The owner; None while the file is being written."""
        try:
            return Owner(**json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def beat(self) -> float:
        """The time of the last touch (seconds on the file system's clock); 0 after release."""
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    def alive(self, now: float, free: bool) -> bool:
        """Whether its process may still be alive."""
        owner = self.owner()
        return now - self.beat() <= SILENCE_S and not (owner is not None and owner.gone(free))

    def keep(self) -> None:
        """Touch it until it is released."""
        while not self._ended.wait(BEAT_S):
            with contextlib.suppress(OSError):  # the next touch may succeed
                os.utime(self.path)

    def release(self) -> None:
        """End the lease."""
        self._ended.set()
        with contextlib.suppress(OSError):
            os.utime(self.path, (0, 0))


@contextlib.contextmanager
def locked(folder: Path, patience_s: float = PATIENCE_S) -> Iterator[Lease]:
    """Own the folder within the block. UserError if another process owns it and still holds the lock after `patience_s`."""
    try:
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written ({error.strerror}).") from error
    with file:
        lease = _take(folder, file, _lock(folder, file, patience_s))
        threading.Thread(target=lease.keep, name="lease", daemon=True).start()
        try:
            yield lease
        finally:
            lease.release()


def held(folder: Path) -> bool | None:
    """Whether a process holds the folder's lock; None if locks are not visible."""
    try:
        with (folder / ".lock").open() as file:
            return not _try(file, fcntl.LOCK_SH)
    except OSError:
        return None


def lives(folder: Path) -> bool:
    """Whether a process works in the folder, as far as this machine can see."""
    taken = held(folder)
    lease = Lease.latest(folder)
    return taken is True or (lease is not None and lease.alive(time.time(), free=taken is False))


def _lock(folder: Path, file: IO[str], patience_s: float) -> bool:
    """Lock the file. False if the file system has no locks; UserError if another process holds it."""
    until = time.monotonic() + patience_s
    try:
        while not _try(file, fcntl.LOCK_EX):
            if time.monotonic() > until:
                raise _busy(folder)
            time.sleep(PATIENCE_S / 20)
    except OSError:
        return False
    return True


def _try(file: IO[str], kind: int) -> bool:
    """Try to lock the file; False if another process holds it, OSError if there are no locks."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):  # ENOSYS, ENOTSUP, ENOLCK, ...
            raise
        return False
    return True


def _take(folder: Path, file: IO[str], locks: bool) -> Lease:
    """A new lease, after the owner of the last one is dead. UserError if it is alive."""
    while True:
        latest = Lease.latest(folder)
        if latest is not None:
            _wait(latest, file, locks)
        new = Lease(folder, latest.number + 1 if latest else 1)
        try:
            with new.path.open("x", encoding="utf-8") as text:
                text.write(json.dumps(asdict(Owner.this(locks))))
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{new.path} cannot be written ({error.strerror}).") from error
        if new.lost:  # its number was in use, and a higher one counts
            new.path.unlink(missing_ok=True)
            continue
        for path in folder.glob(".lease.*"):
            if path != new.path:
                path.unlink(missing_ok=True)
        return new


def _wait(lease: Lease, file: IO[str], locks: bool) -> None:
    """Wait until the lease's process is dead. UserError once it proves alive: it touches its lease, or runs on this machine."""
    beat = lease.beat()
    said = False
    while lease.alive(_now(file), free=locks):
        owner = lease.owner()
        if lease.beat() != beat or (owner is not None and owner.seen()):
            raise _busy(lease.folder)
        if owner is not None and not said:
            log.info("waiting: process %d on %s may still work in %s", owner.pid, owner.host, lease.folder)
            said = True
        time.sleep(PATIENCE_S)


def _now(file: IO[str]) -> float:
    """The time on the clock of the leases."""
    os.utime(file.fileno())
    return os.fstat(file.fileno()).st_mtime


def _busy(folder: Path) -> UserError:
    latest = Lease.latest(folder)
    owner = latest.owner() if latest else None
    who = f" (pid {owner.pid} on {owner.host})" if owner else ""
    return UserError(f"another process is working in {folder}{who}; wait for it.")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
