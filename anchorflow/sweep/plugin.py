"""The project's Hydra launcher: plans a sweep, runs it here or submits it with submitit, and reports the outcome."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from anchorflow.errors import UserError
from anchorflow.results import counted
from anchorflow.settings import build
from anchorflow.sweep.composition import plain, refuse
from anchorflow.sweep.settings import Sweep

if TYPE_CHECKING:
    from anchorflow.sweep.cells import Cell
    from anchorflow.sweep.liveness import Found
    from anchorflow.sweep.plan import Plan
    from anchorflow.sweep.settings import Launcher


class SweepLauncher(HydraLauncher):  # type: ignore[misc]
    """The class that `hydra.launcher` names. Cells run `runs.execute`, whatever function Hydra was started with."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook."""
        self.context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the sweep. A line and exit code 1 if a cell is not complete at the end."""
        sweep: Sweep = build(plain(self.config.sweep), "sweep", Sweep)
        launcher: Launcher = build(plain(self.config.launcher), "launcher")
        try:
            return self._launch(sweep, launcher, job_overrides)
        except UserError as error:
            refuse(str(error))

    def _launch(self, sweep: Sweep, launcher: Launcher, grid: Sequence[Sequence[str]]) -> Sequence[JobReturn]:
        from anchorflow.sweep import plan as planning
        from anchorflow.sweep.ending import summary
        from anchorflow.sweep.hydra_internals import compose
        from anchorflow.sweep.liveness import Jobs

        if not grid:
            raise UserError("the sweep has no cells: one of its settings names no value (glob, range, choice).")
        began = time.monotonic()
        logging.disable(logging.INFO)  # no messages about data that is loaded only for checks
        cells = list(compose(self.context.config_loader, self.config, grid))
        preset = self.config.hydra.runtime.choices.get("sweep") or ",".join(sweep.presets or ())
        if sweep.presets:  # presets may share cells
            cells = list({cell.folder: cell for cell in cells}.values())
        if sweep.scale == "small" or (sweep.scale is None and not sweep.presets):
            preset = None  # only full-size presets require the paper's data
        plan = planning.make(cells, launcher, sweep.retry_failed, Jobs(), memory=sweep.dry_run, preset=preset)
        logging.disable(logging.NOTSET)
        if sweep.dry_run:
            print("\n".join(planning.listing(plan, launcher)), file=sys.stderr)
        print(planning.table(plan, launcher), file=sys.stderr)
        if sweep.dry_run:
            _close(plan, [], [])
            return []
        if not sweep.wait and launcher.where != "slurm":
            raise UserError("sweep.wait=false needs launcher=slurm: otherwise the jobs end with this program.")
        found = self._run(plan, launcher, sweep)
        if found is None:
            return []
        _close(
            plan, found, summary([cell.folder for cell in cells], self.config.hydra.sweep.dir, time.monotonic() - began)
        )
        return [_returned(cell) for cell in cells]

    def _run(self, plan: Plan, launcher: Launcher, sweep: Sweep) -> Sequence[Found] | None:
        """The final state of the cells that ran; None without waiting for them."""
        from anchorflow.runs import stop_signals
        from anchorflow.sweep import pack
        from anchorflow.sweep.liveness import Jobs, look
        from anchorflow.sweep.submission import Submission

        if not plan.packs:
            return []
        if launcher.where == "slurm":
            return self._submit(plan, launcher, sweep)
        with stop_signals():
            if launcher.where == "submitit_local":
                submission = Submission(
                    plan.packs, launcher, Path(self.config.hydra.sweep.dir), live=sweep.code == "live"
                )
                submission.in_processes()
                return submission.found()
            from anchorflow.runs import KeptModel

            kept = KeptModel()
            for cells in plan.packs:
                pack.run(cells, kept)
        jobs = Jobs()
        return [look(cell.folder, jobs) for cells in plan.packs for cell in cells]

    def _submit(self, plan: Plan, launcher: Launcher, sweep: Sweep) -> Sequence[Found] | None:
        from anchorflow.sweep.allocation import model_name, refuse_impossible
        from anchorflow.sweep.submission import Submission, alone, still_to_run

        first = [pack[0] for pack in plan.packs]
        refuse_impossible([cell.allocation or launcher for cell in first], [model_name(cell) for cell in first])
        sweep_dir = Path(self.config.hydra.sweep.dir)
        look_at = f"anchorflow status {sweep_dir}"
        try:
            with alone(sweep_dir):
                packs = still_to_run(plan.packs)
                if not packs:
                    print(f"another launch has submitted all of it; check with: {look_at}", file=sys.stderr)
                    return None
                submission = Submission(packs, launcher, sweep_dir, live=sweep.code == "live")
                submission.to_slurm()
            ids = sorted({str(job.job_id).split("_")[0] for job in submission.jobs}, key=int)
            print(f"submitted as job {', '.join(ids)}; {submission.folder}", file=sys.stderr)
            if not sweep.wait:
                print(f"check with: {look_at}", file=sys.stderr)
                return None
            submission.wait()
        except KeyboardInterrupt:
            print(f"\nstopped waiting; the jobs continue. Check with: {look_at}", file=sys.stderr)
            sys.exit(130)
        return submission.found()


def _close(plan: Plan, found: Sequence[Found], said: Sequence[str]) -> None:
    """Print the closing table and further lines; exit code 1 unless all cells are complete and none was refused."""
    from anchorflow.sweep.submission import closing

    refused = plan.of("refused")
    if found:
        print("\n".join(closing(found)), file=sys.stderr)
    if said:
        print("\n".join(said), file=sys.stderr)
    incomplete = sum(one.state != "completed" for one in found)
    if incomplete or refused:
        parts = [f"{incomplete} of {len(found)} cells are not complete"] if incomplete else []
        parts += [f"{counted(len(refused), 'cell')} refused"] if refused else []
        then = "run the same command again to resume" if incomplete else "the reasons are above"
        refuse(f"{', '.join(parts)}; {then}.")


def _returned(cell: Cell) -> JobReturn:
    from anchorflow.runs import RunDirectory
    from anchorflow.sweep.ending import headline_metric

    returned: Any = JobReturn(overrides=list(cell.overrides))
    returned.status = JobStatus.COMPLETED
    result = RunDirectory(cell.folder).result()
    returned.return_value = None if result is None else headline_metric(result)
    return returned
