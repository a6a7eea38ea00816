"""Check that a run's prompts fit, from tokenizer, configuration and data, before its model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anchorflow.prompts import PromptBuilder
from anchorflow.prompts.context import ContextLimit
from anchorflow.runs.settings import Settings

if TYPE_CHECKING:
    from anchorflow.data import Task
    from anchorflow.models import Shape

SAMPLE, NEAR = 5, 0.6
"""The number of prompts that are checked first. If they take less than this share of the context, the others are assumed to
fit; a run that finds a longer one refuses it."""


def share(settings: Settings, task: Task, shape: Shape, tokenizer: Any) -> float:
    """The share of the context that the longest prompts (by characters) take; 0 without a limit, or if they are unknown.

    UserError if label words cannot be distinguished, or there are too few examples.
    """
    experiment = settings.experiment
    limit = ContextLimit(shape.max_length, settings.model.name)
    builder = PromptBuilder.of(task, tokenizer, limit)
    if not hasattr(experiment, "longest"):  # a user's own experiment may lack it
        return 0.0
    longest: Sequence[Any] = experiment.longest(task, builder, settings.job.seed, SAMPLE)
    return 0.0 if limit.tokens is None else max(unit.length for unit in longest) / limit.tokens


def refuse_too_long(settings: Settings, task: Task, shape: Shape, tokenizer: Any) -> None:
    """Raise UserError if a prompt exceeds the context (with too_long=skip: if all do)."""
    experiment, job = settings.experiment, settings.job
    limit = ContextLimit(shape.max_length, settings.model.name, job.too_long)
    builder = PromptBuilder.of(task, tokenizer, limit)
    units = experiment.prepare(task, builder, job.seed).units
    beyond = [unit for unit in units if not limit.fits(unit)]
    if job.too_long == "refuse":
        limit.sort_out(beyond, experiment.unit.place, experiment.unit.several)
    elif len(beyond) == len(units):
        raise limit.none_fits(len(units))
