"""The resources of each cell's job: the launcher's, overridden by the model's, with enough GPUs for its memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from anchorflow.errors import UserError
from anchorflow.sweep import slurm
from anchorflow.sweep.cells import Cell
from anchorflow.sweep.settings import Launcher

if TYPE_CHECKING:
    from anchorflow.runs.memory import Demand


def refuse_strangers(launcher: Launcher, cells: Iterable[Cell]) -> None:
    """Raise UserError if launcher.per_model names a model that is not in the sweep."""
    names = sorted({model_name(cell) for cell in cells})
    for pattern in launcher.per_model or {}:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UserError(f"launcher.per_model names {pattern!r}; models of this sweep: {', '.join(names)}.")


def model_name(cell: Cell) -> str:
    """The name of the cell's model."""
    node = cell.config["model"]
    return str(node.get("name") or node.get("path"))


def allocate(cell: Cell, launcher: Launcher, takes: Demand | None, size: int) -> Cell:
    """The cell with the resources of its job, and with its model spread over the GPUs if these were chosen for the cell.

    `launcher.per_model` overrides the model's `resources`, which override the launcher's general values. If none of them
    sets the number of GPUs and `launcher.gpu_mem_gb` is known, a job gets as many as the model needs. `size` is the memory
    in bytes that the cell needs on a single GPU, `takes` its parts.
    """
    chosen = cell.settings
    own = getattr(chosen.model, "resources", None)
    given = {} if own is None else own.given
    if chosen.job.device == "cpu":
        given.pop("gpus_per_node", None)
    name = model_name(cell)
    said = next((found for key, found in (launcher.per_model or {}).items() if fnmatchcase(name, key)), None)
    given |= said.given if said else {}
    silent = "gpus_per_node" not in given and launcher.gpus_per_node is None
    if silent and takes is not None and launcher.gpu_mem_gb is not None:
        given["gpus_per_node"] = _enough(takes, size, launcher.gpu_mem_gb, can_spread=_can_spread(cell))
    if given.get("gpus_per_node", 0) > 1 and _can_spread(cell) and not cell.config["model"]["device_map"]:
        cell = cell.with_settings("model", device_map="auto")
    allocated = replace(launcher, **given)
    return cell if allocated.resources == launcher.resources else replace(cell, allocation=allocated)


def fits(cell: Cell, launcher: Launcher, takes: Demand, size: int) -> bool:
    """Whether an allocated cell fits its GPUs of `launcher.gpu_mem_gb` each."""
    assert launcher.gpu_mem_gb is not None
    spread = _can_spread(cell) and cell.config["model"]["device_map"] is not None
    gpus = (cell.allocation or launcher).gpus_per_node or 1
    return _each(takes, size, gpus if spread else 1) <= launcher.gpu_mem_gb * 1e9


def _can_spread(cell: Cell) -> bool:
    return "device_map" in cell.config["model"]


def _enough(takes: Demand, size: int, gpu_mem_gb: float, can_spread: bool) -> int:
    """The smallest number of GPUs that holds the model; 1 if no number does."""
    left = gpu_mem_gb * 1e9 - (size - takes.weights)
    return max(1, math.ceil(takes.weights / left)) if can_spread and left > 0 else 1


def _each(takes: Demand, size: int, gpus: int) -> float:
    """Bytes per GPU: a share of the weights, and everything else."""
    return takes.weights / gpus + size - takes.weights


def refuse_impossible(allocations: Sequence[Launcher], models: Sequence[str]) -> None:
    """Raise UserError if no partition, time limit or node of the cluster suits the jobs."""
    limits = slurm.partitions()
    if not limits:
        raise UserError("SLURM does not answer (sinfo names no partition); try again, or use launcher=local.")
    known = {name.rstrip("*"): minutes for name, minutes in limits.items()}
    nodes = slurm.nodes()
    for launcher, model in zip(allocations, models, strict=True):
        additional = launcher.additional_parameters or {}
        if "partition" in additional:
            continue
        chosen = _partitions(launcher.partition, known, [name.rstrip("*") for name in limits if name.endswith("*")])
        where = f"in partition {','.join(chosen)}"
        most = max(known[name] for name in chosen)
        if launcher.timeout_min > most:  # SLURM would keep such jobs pending for ever
            raise UserError(f"launcher.timeout_min is {launcher.timeout_min}; allowed {where}: up to {most:g}.")
        here = [node for name in chosen for node in nodes.get(name, [])]
        asked = {
            key: launcher.resources[key] for key in slurm.NODE if key in launcher.resources and key not in additional
        }
        if here:
            _refuse_large(asked, here, f"{where} (model {model})")


def _partitions(asked: str | None, known: Iterable[str], defaults: Sequence[str]) -> Sequence[str]:
    if asked is None:
        if not defaults:
            raise UserError(
                f"launcher.partition is not set, and the cluster has no default; allowed: {', '.join(known)}."
            )
        return defaults
    chosen = asked.split(",")
    if not set(chosen) <= set(known):
        raise UserError(f"launcher.partition is {asked!r}; allowed on this cluster: {', '.join(known)}.")
    return chosen


def _refuse_large(asked: Mapping[str, Any], nodes: Sequence[Mapping[str, float]], where: str) -> None:
    for key, value in asked.items():
        most = max(node[key] for node in nodes)
        if value > most:
            raise UserError(f"launcher.{key} is {value:g}; allowed {where}: up to {most:g}, the maximum of its nodes.")
    if not any(all(node[key] >= value for key, value in asked.items()) for node in nodes):
        together = ", ".join(f"{key} {value:g}" for key, value in asked.items())
        raise UserError(f"no node {where} has {together} together; ask for less.")
