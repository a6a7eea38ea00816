"""Predict the GPU memory of a run from a simulation of its passes (see `models.simulation`)."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from anchorflow.errors import UserError, first_line

if TYPE_CHECKING:
    from anchorflow.experiments import Experiment
    from anchorflow.models import LanguageModel, Model
    from anchorflow.scoring import Batch

log = logging.getLogger(__name__)
Pass = Literal["whole", "after a context", "with gradients"]
TOKENS, CONTEXT, LENGTH, OWN = 1024, 256, 256, 32
"""Sizes of the simulation in tokens: a padded batch, a context, a whole prompt, and a prompt after the context."""
FEW, SOME = 4, 6
"""The numbers of layers to simulate: the memory of a pass is linear in them."""
BESIDES = 2**30
"""Bytes that the GPU's libraries need."""


@dataclass(frozen=True)
class Demand:
    """Bytes of the weights, per padded token of a batch, and for the keys and values of a position."""

    weights: int
    token: float
    position: int

    def of(self, batch_tokens: int, context: int = 1024) -> int:
        """Bytes of a run with this budget and contexts of `context` tokens."""
        return self.weights + BESIDES + int(batch_tokens * self.token) + context * self.position


def kind(experiment: Experiment) -> Pass:
    """The kind of an experiment's passes."""
    if getattr(experiment, "gradients", False):
        return "with gradients"
    return "after a context" if getattr(experiment, "demonstrations", None) == "per seed" else "whole"


def demand(model: Model, experiment: Experiment, dtype: str) -> Demand | None:
    """The memory of runs of this kind. None, and a line in the log, if the model cannot be simulated: its class does not
    give its configuration, or its code depends on values (as routers of experts do).
    """
    if not callable(getattr(model, "config", None)):
        return None
    hashable: Any = model  # nodes of the configuration are frozen
    try:
        return _demand(hashable, kind(experiment), "bfloat16" if dtype == "auto" else dtype)
    except Exception as error:  # code of any model family: an estimate must not fail a run
        log.debug("the simulation's traceback", exc_info=True)
        log.warning("the memory of model %s is unknown: it cannot be simulated (%s)", model.name, first_line(error))
        return None


def refuse_too_large(model: Model, experiment: Experiment, device: str, dtype: str) -> None:
    """Raise UserError, before the weights are read, for a model that does not fit one GPU with the smallest batch."""
    import torch

    if not device.startswith("cuda") or getattr(model, "device_map", None) is not None:
        return
    takes = demand(model, experiment, dtype)
    have = torch.cuda.get_device_properties(device).total_memory
    if takes is not None and takes.weights + takes.token > have:
        raise UserError(
            f"model {model.name} in {dtype} takes {gigabytes(takes.weights)} GB, {device} has {gigabytes(have)} GB; "
            "use a smaller dtype, model.quantization=8bit or 4bit, or model.device_map=auto over several GPUs."
        )


def gigabytes(size: int) -> str:
    """A number of bytes in GB, with one decimal."""
    return f"{size / 1e9:.1f}"


@cache
def _demand(model: Any, kind: Pass, dtype: str) -> Demand:
    from anchorflow.models.simulation import simulated, weights_bytes

    config = model.config()
    with simulated(config, dtype) as lm:
        text = lm.model.config.get_text_config()
        kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        layers, size = int(text.num_hidden_layers), lm.dtype.itemsize
        weights = weights_bytes(lm.model, getattr(model, "quantization", None))
    position = 2 * layers * kv_heads * width * size
    peak = _passes[kind]
    if layers <= SOME:
        found = _simulate(config, dtype, layers, peak)
    else:
        few, some = (_simulate(config, dtype, n, peak) for n in (FEW, SOME))
        found = few + (some - few) * (layers - FEW) // (SOME - FEW)
    return Demand(weights, found / TOKENS, position)


def _simulate(config: Any, dtype: str, layers: int, peak: Callable[[LanguageModel], int]) -> int:
    from anchorflow.models.simulation import simulated

    config = copy.deepcopy(config)
    text = config.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    with simulated(config, dtype) as lm:
        return peak(lm)


def _batch(prompts: int, length: int, context: int = 0) -> Batch:
    import torch

    from anchorflow.scoring import Batch

    return Batch(
        context=(0,) * context,
        ids=torch.zeros(prompts, length, dtype=torch.long),
        targets=torch.full((prompts,), length - 1),
        anchors=torch.full((prompts, 6), 5),
        is_anchor=torch.ones(prompts, 6, dtype=torch.bool),
        labels=torch.zeros(prompts, dtype=torch.long),
        label_tokens=torch.arange(6),
    )


def _whole(lm: LanguageModel) -> int:
    import torch

    from anchorflow.models.simulation import Peak
    from anchorflow.scoring import next_word_logits

    with Peak() as peak, torch.no_grad():
        next_word_logits(lm, _batch(TOKENS // LENGTH, LENGTH))
    return peak.bytes


def _after_context(lm: LanguageModel) -> int:
    import torch

    from anchorflow.attention import LabelAttention, read, tapped
    from anchorflow.models.simulation import Peak
    from anchorflow.scoring import LENT, next_word_logits

    context = read(lm.model, [0] * CONTEXT, "cpu")
    batch = _batch(TOKENS // (OWN + CONTEXT // LENT), OWN, CONTEXT)
    with Peak() as peak, torch.no_grad(), tapped(lm.model, LabelAttention(batch.anchors, batch.targets)):
        next_word_logits(lm, batch, context)
    return peak.bytes


def _with_gradients(lm: LanguageModel) -> int:
    import torch

    from anchorflow.attention import SaliencyFlow, tapped
    from anchorflow.models.simulation import Peak
    from anchorflow.scoring import label_log_probabilities, next_word_logits

    batch = _batch(TOKENS // LENGTH, LENGTH)
    with Peak() as peak, torch.enable_grad():
        flow = SaliencyFlow(lm.shape, batch.anchors, batch.is_anchor, batch.targets)
        with tapped(lm.model, flow, only=batch.targets):
            flow.gather(-label_log_probabilities(next_word_logits(lm, batch), batch).sum())
    return peak.bytes


_passes: dict[Pass, Callable[[LanguageModel], int]] = {
    "whole": _whole,
    "after a context": _after_context,
    "with gradients": _with_gradients,
}
