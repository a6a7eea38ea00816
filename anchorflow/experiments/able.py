"""Decide which experiments a model supports, from the properties that it was found to lack when it was loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anchorflow.errors import UserError

if TYPE_CHECKING:
    from anchorflow.models import Abilities, LanguageModel


def _of_the_papers() -> list[Any]:
    """The experiments of this package."""
    from anchorflow import experiments

    exported = (getattr(experiments, name) for name in experiments.__all__)
    return [each for each in exported if hasattr(each, "needs") and hasattr(each, "name")]


def lacking(experiment: Any, can: Abilities) -> Sequence[str]:
    """The properties that an experiment (or its class) needs and a model lacks."""
    return [name for name in getattr(experiment, "needs", ("causal",)) if name not in can]


def refuse_unable(experiment: Any, lm: LanguageModel) -> None:
    """Raise UserError for an experiment that this model does not support, with the missing property and alternatives."""
    from anchorflow.models import PROPERTIES

    if missing := lacking(experiment, lm.can):
        left = [each.name for each in _of_the_papers() if not lacking(each, lm.can)]
        raise UserError(
            f"experiment={experiment.name} cannot run on {lm.name} (model type {lm.model.config.model_type!r}). The model "
            f"fails the check that {PROPERTIES[missing[0]]}: {lm.can.lacking[missing[0]].rstrip('.')}. "
            f"It can run: {', '.join(left) or 'no experiment'}."
        )


def table(lm: LanguageModel) -> str:
    """A readable table of a model's properties and the experiments that it supports."""
    from anchorflow.models import PROPERTIES

    layers = (
        lm.shape.layers
        if lm.shape.attention_layers is None
        else f"{lm.shape.layers} ({len(lm.shape.attending)} attend)"
    )
    lines = [f"{lm.name}: model type {lm.model.config.model_type}, {layers} layers, {lm.shape.heads} heads"]
    width = max(map(len, PROPERTIES))
    for name, meaning in PROPERTIES.items():
        found = "yes" if name in lm.can else f"no: {lm.can.lacking[name]}"
        lines.append(f"  {name:{width}}  {meaning}: {found}")
    for each in _of_the_papers():
        missing = lacking(each, lm.can)
        lines.append(f"  {each.name}: {'yes' if not missing else 'no, it needs ' + ', '.join(missing)}")
    if "context" not in lm.can:
        lines.append("  Every prompt is computed whole, without a shared KV cache.")
    if "padding" not in lm.can:
        lines.append("  All prompts of a batch have the same length.")
    return "\n".join(lines)
