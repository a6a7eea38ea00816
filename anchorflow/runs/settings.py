"""A run's settings: a configuration as checked objects, and what follows from them: its directory and its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anchorflow.data import Source
from anchorflow.experiments import Experiment, UnitKind
from anchorflow.models import Dtype, Model
from anchorflow.prompts import TooLong
from anchorflow.results import SCHEMA
from anchorflow.runs.budget import Budget
from anchorflow.settings import (
    SettingError,
    build,
    configurable,
    digest,
    fingerprint,
    require,
    setting,
    target_of,
    values,
)
from anchorflow.tracking import Tracker

if TYPE_CHECKING:
    from anchorflow.data import Task

GROUPS: Mapping[str, type] = {"model": Model, "dataset": Source, "experiment": Experiment, "tracking": Tracker}
"""The groups of the configuration that make a run, and what each one's class must have."""
NAMED = ("model", "dataset", "experiment")
"""The groups that a run's directory is named after."""
LONGEST_NAME = 100
"""Bytes of a model's or dataset's name: three of them, and what lies in a run's directory, make a path."""
SWEEP_WIDE = ("sweep", "launcher")
"""Groups that are about a sweep as a whole: no part of a single run."""


@configurable
class Job:
    """The top level of the configuration: what is neither model, dataset nor experiment."""

    seed: int = 42
    """What queries, demonstrations and random controls are drawn from."""
    device: str = setting(default="auto", kind="run")
    """auto (an accelerator where there is one), cpu, cuda, cuda:1, mps."""
    dtype: Dtype = "auto"
    """Of the weights; auto is float32 on the CPU and bfloat16 on a GPU."""
    batch_tokens: Budget = setting(default="auto", kind="run")
    """Padded tokens in a batch: how much memory a run takes, not what it finds. auto is what fits a GPU, 1024 on the CPU;
    where memory runs out it is halved."""
    too_long: TooLong = "refuse"
    """What becomes of a prompt longer than the context: refuse it, or skip its query and count it."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^63 - 1")
        if self.batch_tokens != "auto" and self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}; allowed: auto, or 1 or more")


@dataclass(frozen=True)
class Settings:
    """A configuration as objects, each checked by its own class."""

    job: Job
    model: Model
    dataset: Source
    experiment: Experiment
    tracking: Tracker

    @property
    def name(self) -> str:
        """Where the run's directory lies below `outputs/`: readable choices, then a hash of every setting that counts.

        Settings that give the same numbers give the same name, so that a restart finds its records and a sweep its
        finished cells.
        """
        nodes = {group: getattr(self, group) for group in NAMED}
        counts = {group: {"_target_": target_of(type(node)), **_counting(node)} for group, node in nodes.items()}
        names = (node.name for node in (self.experiment, self.model, self.dataset))
        safe = "/".join(map(_safe, names))
        return f"{safe}/seed{self.job.seed}-{digest({**counts, **_counting(self.job)})[:8]}"

    def identity_of(self, task: Task, dtype: str) -> dict[str, Any]:
        """Everything that can change a number, and nothing else: not where, when, how fast, or who is told.

        `dtype` is what the dtype `auto` was resolved to.
        """
        return {
            "schema": SCHEMA,
            "model": fingerprint(self.model),
            "data": task.provenance.sha256,
            "prompts": [task.name, task.template.source, list(task.label_words), task.separator],
            "experiment": fingerprint(self.experiment),
            **values(self.job, "number"),
            "dtype": dtype,
        }

    def identity(self, task: Task, dtype: str) -> str:
        """The hash of all that."""
        return digest(self.identity_of(task, dtype))


def _safe(name: str) -> str:
    """The name as one folder's. SettingError for what no folder can be called."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    if not safe.strip(".") or len(safe.encode()) > LONGEST_NAME:
        shown = name if len(name) <= LONGEST_NAME else f"{name[:40]}..."
        raise SettingError(
            f"{shown!r} cannot be the name of a folder; allowed for models and datasets: up to {LONGEST_NAME} bytes, not dots "
            "alone (model.name=..., dataset.name=...)."
        )
    return safe


def _counting(node: Any) -> dict[str, Any]:
    version = {"version": node.version} if hasattr(node, "version") else {}
    return {**values(node, "number", "source"), **version}


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Check a resolved configuration. Loads no torch; SettingError for what is unknown, missing or impossible."""
    require(config, (*GROUPS, *values(Job(), "number")))
    parts = {group: build(config[group], group, like=like) for group, like in GROUPS.items()}
    if not isinstance(parts["experiment"].unit, UnitKind):
        raise SettingError(
            f"{target_of(type(parts['experiment']))}.unit is {parts['experiment'].unit!r}; allowed: a UnitKind such as "
            "anchorflow.experiments.QUERY."
        )
    rest = {key: value for key, value in config.items() if key not in (*GROUPS, *SWEEP_WIDE)}
    return Settings(job=build(rest, "", Job), **parts)
