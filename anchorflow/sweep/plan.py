"""Plan a sweep: check every cell before anything runs, leave out complete ones, and group the rest into packs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from anchorflow.data import Dataset
from anchorflow.errors import UserError
from anchorflow.results import counted
from anchorflow.runs import RunDirectory, Settings, Shard, foreseen
from anchorflow.runs.budget import nominal
from anchorflow.runs.memory import demand, gigabytes
from anchorflow.settings import digest
from anchorflow.sweep.allocation import allocate, fits, model_name, refuse_strangers
from anchorflow.sweep.cells import Cell
from anchorflow.sweep.estimates import Estimates
from anchorflow.sweep.liveness import Jobs, look
from anchorflow.sweep.settings import Launcher
from anchorflow.sweep.status import columns, duration

if TYPE_CHECKING:
    from anchorflow.data import Task
    from anchorflow.models import Shape

Fate = Literal["done", "to run", "in progress", "left out", "refused"]


class Planned(NamedTuple):
    """A cell, what the sweep does with it, and why."""

    cell: Cell
    fate: Fate
    why: str = ""
    gpu_bytes: int | None = None
    """The GPU memory that it needs in bytes, if requested and known."""


@dataclass(frozen=True)
class Plan:
    """Every cell with its fate, the packs to run (cells of a pack share a model), and the data sources that `auto` chose."""

    cells: tuple[Planned, ...]
    packs: tuple[tuple[Cell, ...], ...]
    sources: tuple[str, ...] = ()

    def of(self, fate: Fate) -> list[Planned]:
        """The cells with this fate."""
        return [planned for planned in self.cells if planned.fate == fate]


def make(
    cells: Sequence[Cell],
    launcher: Launcher,
    only_failed: bool,
    jobs: Jobs,
    memory: bool = False,
    preset: str | None = None,
) -> Plan:
    """Check and sort the cells. UserError if two are the same run; a cell that cannot run is refused, the others run.

    Cells to run are frozen: their data comes from the source chosen here, or the run fails. With `memory`, or if the
    launcher sets the memory of a GPU, the plan has the memory of each cell. The cells of a paper's `preset` at full size
    are refused if dataset.source=auto finds no source with the paper's test split.
    """
    _refuse_doubles(cells)
    refuse_strangers(launcher, cells)
    check = _Check(preset)
    planned = [_decide(cell, check, only_failed, jobs) for cell in cells]
    measured = memory or launcher.gpu_mem_gb is not None
    planned = [_given(one, launcher, measured) if one.fate == "to run" else one for one in planned]
    todo = [
        part for one in planned if one.fate == "to run" for part in _shards(one.cell, whole=launcher.where == "local")
    ]
    return Plan(tuple(planned), tuple(into_packs(todo, launcher)), tuple(check.sources))


def into_packs(cells: Sequence[Cell], launcher: Launcher) -> list[tuple[Cell, ...]]:
    """Group cells by model, with at least one pack per model; with n packs, a pack takes every n-th cell of the sweep's order.

    The shards of a cell, and its neighbours, which take equally long, thus land in different packs. Packs with the same
    resources are consecutive.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.model + digest(_resources(cell, launcher)), []).append(cell)
    packs = []
    kinds = list(dict.fromkeys(digest(_resources(group[0], launcher)) for group in groups.values()))
    for group in sorted(groups.values(), key=lambda group: kinds.index(digest(_resources(group[0], launcher)))):
        n = 1 if launcher.packs is None else max(1, round(launcher.packs * len(group) / len(cells)))
        if launcher.cells_per_pack is not None:
            n = max(n, math.ceil(len(group) / launcher.cells_per_pack))
        n = min(len(group), max(n, *(cell.shard.of if cell.shard else 1 for cell in group)))
        packs += [tuple(group[i::n]) for i in range(n)]
    return packs


def table(plan: Plan, launcher: Launcher) -> str:
    """The plan as text: one line per model, the refused cells, and the resources of a job."""
    fates: tuple[Fate, ...] = ("done", "in progress", "left out", "refused", "to run")
    models: dict[str, list[Planned]] = {}
    for planned in plan.cells:
        models.setdefault(planned.cell.model, []).append(planned)
    packs = Counter(pack[0].model for pack in plan.packs)
    shown = [fate for fate in fates if plan.of(fate) or fate in ("done", "to run")]
    taken = [planned.gpu_bytes for planned in plan.cells if planned.gpu_bytes is not None]
    rows = [["model", "cells", *shown, "packs", *(["GPU memory"] if taken else [])]]
    for key, of_model in models.items():
        counts = Counter(planned.fate for planned in of_model)
        name = model_name(of_model[0].cell)
        most = max((planned.gpu_bytes or 0 for planned in of_model), default=0)
        memory = [f"{gigabytes(most)} GB" if most else ""] if taken else []
        rows.append([name, str(len(of_model)), *(str(counts[fate]) for fate in shown), str(packs[key]), *memory])
    if len(models) > 1:
        total = [str(len(plan.cells)), *(str(len(plan.of(fate))) for fate in shown), str(len(plan.packs))]
        rows.append(["", *total, *([""] if taken else [])])
    lines = columns(rows)
    if plan.sources:
        lines.append(f"data, chosen by dataset.source=auto and fixed for this sweep: {'; '.join(plan.sources)}")
    for fate in ("refused", "in progress"):
        lines += [f"{fate}: {p.cell.name}: {p.why}" for p in plan.of(fate)]
    where = launcher.where
    if where == "slurm":
        for resources, packs_of in groupby(plan.packs, key=lambda pack: _resources(pack[0], launcher)):
            given = _said(resources)
            names = list(dict.fromkeys(model_name(pack[0]) for pack in packs_of))
            which = (
                "each pack"
                if len({digest(_resources(p[0], launcher)) for p in plan.packs}) == 1
                else f"packs of {', '.join(names)}"
            )
            lines.append(f"on SLURM, {which} with {given}; at most {launcher.array_parallelism} at once")
    elif where == "submitit_local":
        lines.append(f"in processes on this machine, at most {launcher.array_parallelism} at once")
    else:
        lines.append("here, one after the other")
    return "\n".join(lines)


def listing(plan: Plan, launcher: Launcher) -> list[str]:
    """One line per cell with its state and, for cells to run, memory, estimated time and resources; then the total."""
    estimates = Estimates()
    rows, seconds, unknown = [["cell", "state", "GPU memory", "time", "given"]], 0.0, 0
    for one in plan.cells:
        row = [one.cell.name, one.fate, "", "", ""]
        if one.fate == "to run":
            took = estimates.of(one.cell)
            seconds, unknown = seconds + (took or 0), unknown + (took is None)
            given = _said(_resources(one.cell, launcher)) if launcher.where == "slurm" else "this machine"
            memory = "" if one.gpu_bytes is None else f"{gigabytes(one.gpu_bytes)} GB"
            row[2:] = [memory, "?" if took is None else duration(took), given]
        rows.append(row)
    lines = columns(rows, left=len(rows[0]))
    if n := len(plan.of("to run")):
        lines.append(
            f"in total: {counted(n, 'cell')} to run, about {duration(seconds)} of computing" if unknown < n else ""
        )
        if unknown:
            lines.append(f"the time of {counted(unknown, 'cell')} is unknown: no run of its kind is complete")
    return [*filter(None, lines), ""]


def _said(resources: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in resources.items())


def _resources(cell: Cell, launcher: Launcher) -> dict[str, Any]:
    return (cell.allocation or launcher).resources


def _refuse_doubles(cells: Sequence[Cell]) -> None:
    seen: dict[Any, Cell] = {}
    for cell in cells:
        first = seen.setdefault(cell.folder, cell)
        if first is not cell:
            apart = [
                " ".join(o for o in a.overrides if o not in b.overrides) for a, b in ((first, cell), (cell, first))
            ]
            which = f" ({' and '.join(apart)})" if all(apart) else ""
            raise UserError(
                f"two cells of the sweep are the same run, {cell.name}{which}; give every value once, and leave "
                "hydra.sweep.subdir as it is."
            )


def _shards(cell: Cell, whole: bool) -> list[Cell]:
    of = int(cell.config["experiment"].get("shards", 1))
    return [cell] if whole or of == 1 else [replace(cell, shard=Shard(i + 1, of)) for i in range(of)]


def _decide(cell: Cell, check: _Check, only_failed: bool, jobs: Jobs) -> Planned:
    if cell.problem is not None:
        return Planned(cell, "left out") if only_failed else Planned(cell, "refused", cell.problem)
    found = look(cell.folder, jobs)
    try:
        if (name := cell.settings.model.name) != cell.config["model"].get(
            "name"
        ):  # including the variant that it adds to its name
            cell = cell.with_settings("model", name=name)
        if (cell.folder / "result.json").exists():
            check.finished(cell)
            return Planned(cell, "done")
        if found.state in ("queued", "running"):
            return Planned(cell, "in progress", f"{found.state}, {found.where}")
        if only_failed and found.state not in ("failed", "lost"):
            return Planned(cell, "left out")
        return Planned(check.new(cell), "to run")
    except UserError as error:
        return Planned(cell, "refused", str(error))


def _given(planned: Planned, launcher: Launcher, measured: bool) -> Planned:
    """The planned cell with its job's resources and, if `measured`, its GPU memory; refused if that is too much."""
    chosen = planned.cell.settings
    on_cpu = chosen.job.device == "cpu" or not measured
    takes = None if on_cpu else demand(chosen.model, chosen.experiment, chosen.job.dtype)
    size = takes.of(nominal(chosen.job.batch_tokens)) if takes else 0
    cell = allocate(planned.cell, launcher, takes, size)
    planned = planned._replace(cell=cell)
    if takes is None:
        return planned
    planned = planned._replace(gpu_bytes=size)
    if launcher.gpu_mem_gb is None or fits(cell, launcher, takes, size):
        return planned
    gpus = (cell.allocation or launcher).gpus_per_node or 1
    why = (
        f"takes {gigabytes(size)} GB of {'a GPU' if gpus == 1 else f'{gpus} GPUs'}, {gigabytes(takes.weights)} of them "
        f"weights; launcher.gpu_mem_gb is {launcher.gpu_mem_gb:g}. Use a smaller dtype or batch_tokens, or other GPUs."
    )
    return planned._replace(fate="refused", why=why)


class _Check:
    """Checks whether cells can run, and whether a result belongs to them. Loads data and model shapes once for all cells."""

    def __init__(self, preset: str | None = None) -> None:
        self.preset = preset
        self.sources: dict[str, None] = {}
        self._known: dict[str, Any] = {}

    def new(self, cell: Cell) -> Cell:
        """The cell with its choices frozen. UserError if it cannot run."""
        chosen = cell.settings
        task = self._task(cell)
        frozen = chosen.dataset.frozen(task) if isinstance(chosen.dataset, Dataset) else {}
        if frozen:
            self._refuse_other_split(chosen, task)
        parts = [cell.config[key] for key in ("model", "dataset", "experiment")]
        self._once("check", parts, lambda: chosen.experiment.check(task, self._shape(cell)))
        if (tokenizer := self._tokenizer(cell)) is not None:
            known = chosen, task, self._shape(cell), tokenizer
            if self._once("share", parts, lambda: foreseen.share(*known)) >= foreseen.NEAR:
                foreseen.refuse_too_long(*known)
        if frozen:
            self.sources[task.shown] = None
        return cell.with_settings("dataset", **frozen)

    def _refuse_other_split(self, chosen: Settings, task: Task) -> None:
        """Refuse data without the paper's test split, except for experiments that draw only from the train split."""
        if self.preset is None or not hasattr(chosen.experiment, "n_queries"):
            return
        assert isinstance(chosen.dataset, Dataset)
        if (instead := chosen.dataset.without_split(task)) is not None:
            raise UserError(f"sweep={self.preset} takes the paper's data: {instead}")

    def finished(self, cell: Cell) -> None:
        """Raise UserError if the result in the cell's directory belongs to other data, weights or settings."""
        chosen = cell.settings
        result = RunDirectory(cell.folder).result() or {}
        try:
            found, dtype = result["identity"], result["environment"]["dtype"]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{cell.folder / 'result.json'} is damaged (no {error}); delete it, and the run resumes from its records."
            ) from error
        identity = chosen.identity(self._task(cell), dtype)
        if found != identity:
            raise UserError(
                f"{cell.folder} holds the result of another run ({found}, this one is {identity}): its data "
                "or weights differ. Choose another hydra.sweep.dir, or delete that directory."
            )

    def _task(self, cell: Cell) -> Task:
        node = cell.config["dataset"]
        task: Task = self._once("task", node, lambda: cell.settings.dataset.load())
        return task

    def _shape(self, cell: Cell) -> Shape:
        shape: Shape = self._once("shape", cell.config["model"], lambda: cell.settings.model.shape())
        return shape

    def _tokenizer(self, cell: Cell) -> Any:
        """The tokenizer; None for a user's own model class that has none without weights."""
        model = cell.settings.model
        return self._once("tokenizer", cell.config["model"], model.tokenizer) if hasattr(model, "tokenizer") else None

    def _once(self, what: str, of: Any, make: Callable[[], Any]) -> Any:
        """The cached value of `make`, or the UserError that it raised the first time."""
        key = f"{what} {digest(of)}"
        if key not in self._known:
            try:
                self._known[key] = make()
            except UserError as error:
                self._known[key] = error
        if isinstance(self._known[key], UserError):
            raise self._known[key]
        return self._known[key]
