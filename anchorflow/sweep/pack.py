"""Run cells that share a model one after another in one allocation."""

from __future__ import annotations

import logging
import logging.config
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from omegaconf import OmegaConf

from anchorflow.errors import UserError
from anchorflow.results import read_status, write_atomically
from anchorflow.runs import KeptModel, RunDirectory, Stopped, execute, stop_signals
from anchorflow.runs.lock import lives
from anchorflow.runs.rundir import slurm_job
from anchorflow.sweep import slurm
from anchorflow.sweep.cells import Cell

log = logging.getLogger(__name__)
tracebacks = logging.getLogger("anchorflow.tracebacks")
"""Logs only to the file (conf/hydra/job_logging/anchorflow.yaml), not to the screen."""
tracebacks.propagate = False
tracebacks.addHandler(logging.NullHandler())

STOP_S = 60
"""Seconds that a pack waits for its worker to clean up."""


def run(cells: Sequence[Cell], kept: KeptModel | None = None, parent: int | None = None) -> list[Cell]:
    """Run the cells in this process, keeping one model loaded; returns those that failed. Stopped ends them all.

    If the process `parent` dies, no further cell is started: a relaunch may have submitted the rest.
    """
    kept = kept or KeptModel()
    failed = []
    for number, cell in enumerate(cells, start=1):
        if parent is not None and os.getppid() != parent:
            break
        print(f"cell {number} of {len(cells)}: {cell.name}", file=sys.stderr)
        if not run_cell(cell, kept):
            failed.append(cell)
    return failed


def run_cell(cell: Cell, kept: KeptModel) -> bool:
    """Run a cell as Hydra would, with configuration and log in its directory. Prints a line and returns False if it fails."""
    try:
        begin(cell)
        execute(cell.config, cell.folder, kept, cell.shard, cell.recorded)
    except UserError as error:
        print(f"error: {cell.name}: {error}", file=sys.stderr)
        tracebacks.error("%s", error, exc_info=True)
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        print(f"error: {cell.name}: {type(error).__name__}: {reason} (traceback in launch.log)", file=sys.stderr)
        tracebacks.error("%s", error, exc_info=True)
    else:
        return True
    return False


def begin(cell: Cell) -> None:
    """Write the cell's configuration (.hydra/), and direct its log to its launch.log."""
    told = cell.folder / ".hydra"
    told.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("config", cell.recorded or cell.config),
        ("overrides", list(cell.overrides)),
        ("hydra", {"hydra": cell.hydra}),
    ):
        write_atomically(told / f"{name}.yaml", OmegaConf.to_yaml(OmegaConf.create(content)))
    logging.config.dictConfig(cell.hydra["job_logging"])
    if cell.hydra["verbose"] is True:
        logging.getLogger().setLevel(logging.DEBUG)


@dataclass
class Pack:
    """What submitit runs: the cells, in a child process whose death does not affect the cells after it.

    The exit code is 1 if any cell failed, so that the job's state is FAILED. If the allocation ends before the work,
    submitit calls `checkpoint` and requeues the job, which resumes from the records and skips cells that failed before.
    If it may not be requeued again, its unfinished cells fail.
    """

    cells: tuple[Cell, ...]
    max_requeues: int
    worker: int | None = None

    def __call__(self) -> None:
        """Run all cells."""
        from submitit.core.utils import UncompletedJobError

        if _requeues() > self.max_requeues:
            self._give_up()
        before = {number: signal.signal(number, self._pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            failed = self._run()
        except UncompletedJobError:  # its time is up, and submitit does not requeue it
            self._give_up()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if failed:
            sys.exit(1)

    def _run(self) -> bool:
        """Whether a cell failed."""
        left = [cell for cell in self.cells if not (_requeues() and _failed_here(cell))]
        failed = len(left) < len(self.cells)
        while left:
            code = self._work(left)
            if code >= 0:
                return failed or code > 0
            # Killed from outside or for its memory: the current cell has failed, those after it have not.
            at = next((i for i, cell in enumerate(left) if _is_at_work(cell, self.worker)), 0)
            name = signal.Signals(-code).name
            _fail(left[at], f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else ""))
            failed, left = True, left[at + 1 :]
        return failed

    def checkpoint(self) -> Any:
        """End the worker, which keeps its records, and return the same pack to requeue, unless that happened too often."""
        from submitit.helpers import DelayedSubmission

        self._end_worker()
        if _requeues() >= self.max_requeues:
            return None
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # requeueing sends this job a signal, but it is ending anyway
        return DelayedSubmission(Pack(self.cells, self.max_requeues))

    def _work(self, cells: Sequence[Cell]) -> int:
        """Run a worker for these cells; returns its exit code: 1 if a cell failed, -9 if it was killed."""
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        self.worker = os.fork()  # before torch is loaded: a pack itself computes nothing
        if self.worker == 0:
            code = 1
            try:
                signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # meant for the pack, which then sends SIGTERM
                with stop_signals(slurm.stop_state):
                    code = 1 if run(cells, parent=parent) else 0
            except Stopped as stop:
                code = 128 + stop.signal
            except BaseException:
                log.exception("the pack's worker failed")
            finally:
                logging.shutdown()
                os._exit(code)
        _, status = os.waitpid(self.worker, 0)
        return os.waitstatus_to_exitcode(status)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._end_worker(number)
        if slurm.out_of_time():
            self._give_up()
        sys.exit(128 + number)

    def _give_up(self) -> NoReturn:
        """Mark the unfinished cells as failed: nothing restarts them automatically."""
        requeues = _requeues()
        if requeues >= self.max_requeues:
            reason = f"requeued {requeues} times; allowed: launcher.max_requeues={self.max_requeues}"
        else:
            reason = "out of time (launcher.timeout_min), and not requeued again (launcher.max_num_timeout)"
        for cell in self.cells:
            _fail(cell, f"{reason}; its records are kept, run the same command again to resume it")
        sys.exit(1)

    def _end_worker(self, number: int = signal.SIGTERM) -> None:
        import time

        if self.worker is None:
            return
        try:
            os.kill(self.worker, number)
            until = time.monotonic() + STOP_S
            while time.monotonic() < until and os.waitpid(self.worker, os.WNOHANG) == (0, 0):
                time.sleep(0.05)
        except (ProcessLookupError, ChildProcessError):
            pass


def _requeues() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT", 0))


def _directory(cell: Cell) -> RunDirectory:
    directory = RunDirectory(cell.folder)
    return directory.shard(*cell.shard) if cell.shard else directory


def _fail(cell: Cell, error: str) -> None:
    """Mark a cell as failed, unless it has ended or another process has taken it over."""
    directory = _directory(cell)
    status = read_status(directory.path)
    if directory.result() is not None or status.get("state") in ("completed", "failed") or lives(directory.path):
        return
    directory.report("failed", **{key: status[key] for key in ("identity", "progress") if key in status}, error=error)
    print(f"error: {cell.name}: {error}", file=sys.stderr)


def _failed_here(cell: Cell) -> bool:
    """Whether it failed in this job, before the job was requeued."""
    status = read_status(_directory(cell).path)
    return status.get("state") == "failed" and status.get("job_id") == slurm_job()


def _is_at_work(cell: Cell, worker: int | None) -> bool:
    status = read_status(_directory(cell).path)
    return status.get("state") == "running" and status.get("pid") == worker
