"""Apply taps to a model's attention within a block, and detect layers that the taps do not reach."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from anchorflow.attention.core import Attention
from anchorflow.attention.reach import Attend, decoder_config, decoder_layers, reached
from anchorflow.errors import UserError
from anchorflow.models import attention_layers

Tap = Callable[[Attention, Attend], Tensor]
"""Reads or changes one layer's attention. It calls the given `attend`, or computes the output itself."""


@contextmanager
def tapped(
    model: PreTrainedModel, *taps: Tap, only: Int[Tensor, " batch"] | None = None, start: int = 0
) -> Iterator[None]:
    """Within the block, the attention of every layer of `model` passes through `taps`; the first tap is the outermost.

    `only` gives one position of each prompt. Everything after the last layer's attention is then computed for that
    position only, which saves nearly all matrix products of one layer; read no other position. Layers below `start`
    (from 0) are not run (see Halfway).

    The block restores the model at its end, also after an exception. Blocks around one model nest: the taps of the inner
    block run after those of the outer one.

    Raises UserError at the first forward pass in which an attention layer bypasses the taps: the attention of this model
    family cannot be reached.
    """
    seen: list[int] = []
    blocks = decoder_layers(model)
    layers = [layer for layer in attention_layers(decoder_config(model)) if layer >= start]
    if not layers:
        raise UserError(f"model type {model.config.model_type!r} has no attention layers; this needs some.")

    def begin(module: nn.Module, arguments: Any) -> None:
        seen.clear()

    def check(module: nn.Module, arguments: Any, output: Any) -> None:
        if sorted(seen) != layers:
            raise UserError(
                f"{len(set(seen) & set(layers))} of the {len(layers)} attention layers of model type "
                f"{model.config.model_type!r} can be reached"
                + (", some of them several times." if len(seen) > len(set(seen)) else ".")
            )

    def note(attention: Attention, attend: Attend) -> Tensor:
        seen.append(attention.layer)
        return attend(attention)

    def cut(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """One row into a linear layer, one row out; the residual sum broadcasts it to the other rows, which are not read."""
        if seen and seen[-1] == layers[-1] and inputs[0].ndim == 3 and inputs[0].shape[1] > 1 and only is not None:
            rows = torch.arange(len(inputs[0]), device=inputs[0].device)
            return (inputs[0][rows, only.to(rows.device)][:, None], *inputs[1:])
        return None

    with ExitStack() as stack:
        if only is not None and layers[-1] == len(blocks) - 1:
            for module in _linear_maps(blocks[-1]):
                stack.callback(module.register_forward_pre_hook(cut).remove)
        outer = _taps.get()
        if not outer:
            stack.enter_context(reached(model, _run))
        token = _taps.set((*outer, note, *taps))
        stack.callback(_taps.reset, token)
        for hook in (blocks[0].register_forward_pre_hook(begin), blocks[-1].register_forward_hook(check)):
            stack.callback(hook.remove)
        yield


def _linear_maps(layer: nn.Module) -> list[nn.Module]:
    return [module for module in layer.modules() if isinstance(module, (nn.Linear, Conv1D))]


_taps: ContextVar[tuple[Tap, ...]] = ContextVar("taps", default=())


def in_force() -> bool:
    """Whether this code runs within a block of `tapped`."""
    return bool(_taps.get())


def _run(attention: Attention, vanilla: Attend) -> Tensor:
    """Call the active taps, each around the next, with the model's own attention innermost."""

    def attend(level: int, attention: Attention) -> Tensor:
        taps = _taps.get()
        if level == len(taps):
            return vanilla(attention)
        return taps[level](attention, lambda inner: attend(level + 1, inner))

    return attend(0, attention)
