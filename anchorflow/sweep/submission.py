"""Submit packs with submitit, to SLURM or to processes on this machine, and follow them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from anchorflow.errors import UserError
from anchorflow.results import dumps, write_atomically
from anchorflow.runs import RunDirectory
from anchorflow.runs.lock import locked
from anchorflow.runs.provenance import ROOT, revision
from anchorflow.sweep import slurm, snapshot
from anchorflow.sweep.arrays import divide
from anchorflow.sweep.cells import Cell
from anchorflow.sweep.liveness import Found, Jobs, look
from anchorflow.sweep.pack import Pack
from anchorflow.sweep.settings import Launcher
from anchorflow.sweep.status import summary

POLL_S = 2.0
PATIENCE_S = 600.0
"""Seconds that a launch waits for another one that submits runs of the same directory."""


@contextmanager
def alone(sweep_dir: Path) -> Iterator[None]:
    """Allow one launch at a time to submit runs of this directory. UserError if it is not writable, or after ten minutes."""
    folder = sweep_dir.absolute() / ".submitting"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written ({error.strerror}).") from error
    with locked(folder, PATIENCE_S):
        yield


def still_to_run(packs: Iterable[tuple[Cell, ...]]) -> list[tuple[Cell, ...]]:
    """The packs without cells that another launch has submitted since the plan was made."""
    jobs, taken = Jobs(), ("queued", "running", "completed")
    left = (tuple(cell for cell in pack if look(cell.folder, jobs).state not in taken) for pack in packs)
    return [pack for pack in left if pack]


class Submission:
    """The packs of one sweep. `plan.json` in `folder` lists the cells of each job as soon as they are known.

    With `live`, jobs run the code as it is when they start, else a copy of it.
    """

    def __init__(
        self, packs: Sequence[tuple[Cell, ...]], launcher: Launcher, sweep_dir: Path, live: bool = False
    ) -> None:
        self.packs = packs
        self.launcher = launcher
        self.jobs: list[Any] = []
        name = f"{datetime.now():%Y-%m-%dT%H-%M-%S}-{os.getpid()}"
        self.folder = sweep_dir.absolute() / "sweeps" / name
        try:
            self.folder.mkdir(parents=True)
            cells = (cell for pack in packs for cell in pack)
            self.code = None if live else snapshot.take(self.folder, cells)
            self._queue()
        except OSError as error:
            raise UserError(f"{error.filename or self.folder} cannot be written ({error.strerror}).") from error

    def to_slurm(self) -> None:
        """Submit all packs as arrays within the cluster's limit. UserError if sbatch refuses; it names the accepted packs."""
        for launcher, packs in groupby(self.packs, key=lambda pack: pack[0].allocation or self.launcher):
            self._to_slurm(launcher, list(packs))

    def _to_slurm(self, launcher: Launcher, packs: Sequence[tuple[Cell, ...]]) -> None:
        """Submit packs with the same resources."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        executor = submitit.SlurmExecutor(
            folder=self._logs,
            max_num_timeout=self.launcher.max_num_timeout,
            python=snapshot.python(self.code),
        )
        given = self._given(launcher)
        renamed = {"timeout_min": "time", "mem_gb": "mem"}
        known = {renamed.get(key, key): value for key, value in given.items() if key not in self._additional}
        if "mem" in known:
            known["mem"] = f"{round(known['mem'] * 1024)}MB"
        executor.update_parameters(
            job_name="anchorflow",
            wckey=None,  # submitit's own key, which clusters with a list of allowed keys refuse
            signal_delay_s=self.launcher.signal_delay_s,
            setup=[*self._environment(launcher), *self.launcher.setup],
            stderr_to_stdout=True,
            **known,
        )
        arrays = divide(len(packs), slurm.largest_array(), self.launcher.array_parallelism)
        first = len(self.jobs)
        for array in arrays:
            after = None if array.after is None else self.jobs[first + arrays[array.after].start].job_id.split("_")[0]
            executor.update_parameters(array_parallelism=array.at_once, additional_parameters=self._after(after))
            try:
                with slurm.clean_environment(), executor.batch():
                    jobs = [executor.submit(self._pack(cells)) for cells in packs[array.start : array.stop]]
            except (FailedJobError, FailedSubmissionError) as error:
                self._write()
                raise UserError(self._refusal(str(error))) from error
            self.jobs += jobs
            self._write()

    def in_processes(self) -> None:
        """Run all packs in processes of this machine, `array_parallelism` at once, and wait for them."""
        import submitit

        executor = submitit.LocalExecutor(
            folder=self._logs, max_num_timeout=self.launcher.max_num_timeout, python=snapshot.python(self.code)
        )
        executor.update_parameters(timeout_min=self.launcher.timeout_min, setup=list(self.launcher.setup) or None)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        waiting = list(self.packs)
        running: list[Any] = []
        with locked(self.folder), self._bar() as bar:
            try:
                while waiting or running:
                    while waiting and len(running) < self.launcher.array_parallelism:
                        running.append(executor.submit(self._pack(waiting.pop(0))))
                        self.jobs.append(running[-1])
                        self._write()
                    time.sleep(POLL_S / 4)
                    running = [job for job in running if not job.done()]
                    self._update(bar)
            except BaseException:  # a termination signal
                for job in running:
                    job.cancel()
                raise

    def wait(self) -> None:
        """Wait until all jobs have ended. Ctrl-C ends the waiting, not the jobs."""
        with self._bar() as bar:
            while True:
                living = slurm.alive()
                if living is not None:
                    waits = Counter(living[job.job_id] for job in self.jobs if job.job_id in living)
                    bar.set_postfix_str(", ".join(f"{n} {_said(reason)}" for reason, n in sorted(waits.items())))
                self._update(bar)
                if living is not None and not waits:
                    return
                time.sleep(POLL_S)

    def found(self) -> list[Found]:
        """The current state of each cell."""
        jobs = Jobs()
        return [look(folder, jobs) for folder in self._folders]

    @property
    def _folders(self) -> list[Path]:
        return list(dict.fromkeys(cell.folder for pack in self.packs for cell in pack))

    @property
    def _logs(self) -> Path:
        return self.folder / "jobs"

    @property
    def _additional(self) -> dict[str, Any]:
        return dict(self.launcher.additional_parameters or {})

    def _given(self, launcher: Launcher) -> dict[str, Any]:
        """The resources of a job, on SLURM including the user's own defaults."""
        return (slurm.defaults() if launcher.where == "slurm" else {}) | launcher.resources

    def _after(self, job: str | None) -> dict[str, Any]:
        """Dependencies for sbatch: the previous job must have ended, in addition to those that the launcher sets."""
        ours = [] if job is None else [f"afterany:{job}"]
        theirs = [str(value) for key, value in self._additional.items() if key == "dependency"]
        return self._additional | ({"dependency": ",".join(theirs + ours)} if ours else {})

    def _environment(self, launcher: Launcher) -> list[str]:
        """Shell lines with which a job finds this code if it is not installed, and uses only its allotted threads."""
        lines = [f'export PYTHONPATH="{self.code or ROOT}${{PYTHONPATH:+:$PYTHONPATH}}"']
        if launcher.cpus_per_task is not None:
            lines.append(f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{launcher.cpus_per_task}}}")
        return lines

    def _pack(self, cells: tuple[Cell, ...]) -> Pack:
        return Pack(cells, self.launcher.max_requeues)

    def _queue(self) -> None:
        """Mark every cell as queued, before the first job can update its status."""
        self._write()
        packs: dict[Path, list[int]] = {}
        for number, pack in enumerate(self.packs):
            for cell in pack:
                packs.setdefault(cell.folder, []).append(number)
        for folder, numbers in packs.items():
            folder.mkdir(parents=True, exist_ok=True)
            RunDirectory(folder).report("queued", sweep=str(self._plan), packs=numbers)

    @property
    def _plan(self) -> Path:
        return self.folder / "plan.json"

    def _write(self) -> None:
        ids = [job.job_id for job in self.jobs] + [None] * (len(self.packs) - len(self.jobs))
        packs = [
            {
                "job_id": job,
                **({"resources": pack[0].allocation.resources} if pack[0].allocation else {}),
                "cells": [cell.name for cell in pack],
            }
            for job, pack in zip(ids, self.packs, strict=True)
        ]
        code = {"kind": "snapshot" if self.code else "live", "revision": str(revision())}
        given = {"launcher": self.launcher.where, "code": code, "resources": self._given(self.launcher)}
        write_atomically(self._plan, dumps({**given, "packs": packs}, indent=1) + "\n")

    def _refusal(self, said: str) -> str:
        lines = [line for line in map(str.strip, said.splitlines()) if line.startswith("sbatch:")]
        lines = [line.removeprefix("sbatch:").strip().removeprefix("error:").strip() for line in lines]
        reason = "; ".join(dict.fromkeys(lines)).rstrip(".") or said.strip()
        left = len(self.packs) - len(self.jobs)
        taken = (
            f" {len(self.jobs)} packs were already submitted ({self._plan} lists them), {left} were not."
            if self.jobs
            else ""
        )
        return f"sbatch refused: {reason}. Change launcher.* (conf/launcher/).{taken}"

    def _bar(self) -> Any:
        from tqdm import tqdm

        return tqdm(total=len(self._folders), desc="sweep", unit="cell")

    def _update(self, bar: Any) -> None:
        bar.n = sum((folder / "result.json").exists() for folder in self._folders)
        bar.refresh()


def _said(reason: str) -> str:
    return f"waiting ({reason})" if reason else "running"


def closing(found: Iterable[Found]) -> list[str]:
    """The closing lines: the number of cells in each state, and each incomplete cell with its reason."""
    found = list(found)
    lines = [summary(found, "cell")]
    for one in found:
        if one.state != "completed":
            state = "did not run" if one.state in ("new", "queued") else one.state
            lines.append(f"  {state}: {'/'.join(one.folder.parts[-4:])}" + (f": {one.why}" if one.why else ""))
    return lines
