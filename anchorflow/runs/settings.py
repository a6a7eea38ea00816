"""A run's settings: the configuration as checked objects, and the run's directory and identity derived from them."""

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
"""The groups of the configuration that make a run, and the protocol of each group's class."""
NAMED = ("model", "dataset", "experiment")
"""The groups that appear in the name of a run's directory."""
LONGEST_NAME = 100
"""The most bytes in the name of a model or dataset: a path contains three names and those of a run's files."""
SWEEP_WIDE = ("sweep", "launcher")
"""Groups that belong to a sweep as a whole, not to a single run."""


@configurable
class Job:
    """The settings at the top level of the configuration, outside all groups."""

    seed: int = 42
    """The seed of all random draws: queries, demonstrations and random controls."""
    device: str = setting(default="auto", kind="run")
    """auto (an accelerator if there is one), cpu, cuda, cuda:1, mps."""
    dtype: Dtype = "auto"
    """The dtype of the weights; auto is float32 on the CPU and bfloat16 on a GPU."""
    batch_tokens: Budget = setting(default="auto", kind="run")
    """The padded tokens in a batch, which affect memory and speed, not results. auto is as many as fit a GPU, 1024 on the CPU;
    it is halved if memory runs out."""
    too_long: TooLong = "refuse"
    """For a prompt longer than the model's context: refuse the run, or skip the query and count it."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^63 - 1")
        if self.batch_tokens != "auto" and self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}; allowed: auto, or 1 or more")


@dataclass(frozen=True)
class Settings:
    """A configuration as objects, each validated by its class."""

    job: Job
    model: Model
    dataset: Source
    experiment: Experiment
    tracking: Tracker

    @property
    def name(self) -> str:
        """The run's directory below `outputs/`: readable choices, then a hash of every setting that can change a number.

        Settings with the same numbers have the same name, so that a restart finds its records and a sweep its complete
        cells.
        """
        nodes = {group: getattr(self, group) for group in NAMED}
        counts = {group: {"_target_": target_of(type(node)), **_counting(node)} for group, node in nodes.items()}
        names = (node.name for node in (self.experiment, self.model, self.dataset))
        safe = "/".join(map(_safe, names))
        return f"{safe}/seed{self.job.seed}-{digest({**counts, **_counting(self.job)})[:8]}"

    def identity_of(self, task: Task, dtype: str) -> dict[str, Any]:
        """Everything that can change a number, and nothing else (device, time, speed, tracker).

        `dtype` is the resolved dtype, not `auto`.
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
        """The hash of `identity_of`."""
        return digest(self.identity_of(task, dtype))


def _safe(name: str) -> str:
    """The name as that of a single folder. SettingError if no folder can have it."""
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
    """Check a resolved configuration without loading torch. SettingError for unknown, missing or invalid settings."""
    require(config, (*GROUPS, *values(Job(), "number")))
    parts = {group: build(config[group], group, like=like) for group, like in GROUPS.items()}
    if not isinstance(parts["experiment"].unit, UnitKind):
        raise SettingError(
            f"{target_of(type(parts['experiment']))}.unit is {parts['experiment'].unit!r}; allowed: a UnitKind such as "
            "anchorflow.experiments.QUERY."
        )
    rest = {key: value for key, value in config.items() if key not in (*GROUPS, *SWEEP_WIDE)}
    return Settings(job=build(rest, "", Job), **parts)
