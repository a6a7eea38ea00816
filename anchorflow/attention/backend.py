"""Put taps into a model's attention for a block: the only place that knows model families.

Most families ask transformers' AttentionInterface for their attention function; for a block they are
given ours. GPT-J, GPT-Neo and CodeGen have a method `_attn` instead, and Falcon calls torch's
scaled_dot_product_attention in the middle of its forward. Any other way of computing attention is
found out by counting layers, and refused.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask
from transformers.pytorch_utils import Conv1D

from anchorflow.attention.core import Attention
from anchorflow.errors import UserError

Attend = Callable[[Attention], Tensor]
"""Carries out an attention: [batch, head, query, dim]."""


Reach = Callable[[PreTrainedModel], AbstractContextManager[None]]
"""Makes a family's attention layers call `_run` for a block."""

Tap = Callable[[Attention, Attend], Tensor]
"""Reads or changes one layer's attention. It calls the given `attend` unless it computes the output itself."""


@contextmanager
def tapped(
    model: PreTrainedModel, *taps: Tap, only: Int[Tensor, " batch"] | None = None, start: int = 0
) -> Iterator[None]:
    """Within the block every attention layer of `model` goes through `taps`, the first one outermost.

    With `only`, a position of each prompt, what follows the last layer's attention is computed there alone, which
    is right if nothing else is read: one layer less of nearly all matrix products. Layers below `start` (from 0) are not
    run (see Halfway).

    Afterwards, also after an exception, the model is as before. Blocks nest (around one
    model): the taps of the inner one come after those of the outer one.

    Raises UserError at the first forward pass that did not bring every layer through the taps, which is
    how a model family whose attention cannot be reached shows itself.
    """
    seen: list[int] = []
    layers = list(range(start, model.config.get_text_config().num_hidden_layers))

    def begin(module: nn.Module, arguments: Any) -> None:
        seen.clear()

    def check(module: nn.Module, arguments: Any, output: Any) -> None:
        if sorted(seen) != layers:
            raise UserError(
                f"{len(set(seen))} of the {len(layers)} attention layers of model type {model.config.model_type!r} can be "
                "reached. Allowed: families that use transformers' AttentionInterface (gpt2, llama, mistral, qwen, gemma, "
                "opt, gpt_neox, ...), gptj, gpt_neo, codegen and falcon."
            )

    def note(attention: Attention, attend: Attend) -> Tensor:
        seen.append(attention.layer)
        return attend(attention)

    def cut(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """One row into a linear map, one row out; the residual sum spreads it over the others, which nobody reads."""
        if seen and seen[-1] == layers[-1] and inputs[0].ndim == 3 and inputs[0].shape[1] > 1 and only is not None:
            rows = torch.arange(len(inputs[0]), device=inputs[0].device)
            return (inputs[0][rows, only.to(rows.device)][:, None], *inputs[1:])
        return None

    with ExitStack() as stack:
        if only is not None:
            for module in _linear_maps(decoder_layers(model)[-1]):
                stack.callback(module.register_forward_pre_hook(cut).remove)
        outer = _taps.get()
        if not outer:
            reach: Reach = _FAMILIES.get(model.config.model_type, _through_interface)
            stack.enter_context(reach(model))
        token = _taps.set((*outer, note, *taps))
        stack.callback(_taps.reset, token)
        for hook in (model.base_model.register_forward_pre_hook(begin), model.base_model.register_forward_hook(check)):
            stack.callback(hook.remove)
        yield


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The model's layers in order. UserError where they are not in one list."""
    n_layers = model.config.get_text_config().num_hidden_layers
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return module
    raise UserError(f"model type {model.config.model_type!r} does not keep its {n_layers} layers in one list.")


def _linear_maps(layer: nn.Module) -> list[nn.Module]:
    return [module for module in layer.modules() if isinstance(module, (nn.Linear, Conv1D))]


_taps: ContextVar[tuple[Tap, ...]] = ContextVar("taps", default=())


def in_force() -> bool:
    """Whether this is within a block of `tapped`."""
    return bool(_taps.get())


def _run(attention: Attention, vanilla: Attend) -> Tensor:
    """The taps in force, each around the next, the model's own attention innermost."""

    def attend(level: int, attention: Attention) -> Tensor:
        taps = _taps.get()
        if level == len(taps):
            return vanilla(attention)
        return taps[level](attention, lambda inner: attend(level + 1, inner))

    return attend(0, attention)


# --- AttentionInterface ---------------------------------------------------------------------------

_NAME = "anchorflow"
_before: ContextVar[str] = ContextVar("before", default="sdpa")


@contextmanager
def _through_interface(model: PreTrainedModel) -> Iterator[None]:
    config = model.config.get_text_config()
    before = config._attn_implementation
    token = _before.set(before)
    # The setter of PreTrainedModel walks all modules and may warn; the attribute is what layers look at.
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _before.reset(token)


def _interface_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Registered under our name: [batch, head, query, dim] in, [batch, query, head, dim] out, as transformers wants."""
    if others.get("s_aux") is not None:
        raise UserError(f"{type(module).__name__} has attention sinks, which taps do not support.")
    implementation = _before.get()
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    function = AttentionInterface().get_interface(implementation, eager)
    extra = others if softcap is None else {**others, "softcap": softcap}

    def vanilla(a: Attention) -> Tensor:
        output = function(module, a.query, a.key, a.value, a.mask, scaling=a.scaling, **extra)[0]
        return output.transpose(1, 2)

    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: int = module.layer_idx
    attention = Attention(layer, query, key, value, attention_mask, scale, softcap)
    return _run(attention, vanilla).transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _interface_attention)
# Without a mask function of the same name the model would be handed no mask at all, and see the future.
AttentionMaskInterface.register(_NAME, eager_mask)


# --- a method `_attn` (GPT-J, CodeGen, GPT-Neo) ---------------------------------------------------


@contextmanager
def _through_method(model: PreTrainedModel) -> Iterator[None]:
    modules = [module for module in model.modules() if hasattr(module, "_attn")]
    with ExitStack() as stack:
        for layer, module in enumerate(modules):
            stack.enter_context(replaced(module, "_attn", _method_attention(layer, module)))
        yield


@contextmanager
def replaced(module: nn.Module, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Put `function` over a method of this one module; what an offloading library put there comes back."""
    before = {name: module.__dict__[name]} if name in module.__dict__ else {}
    module.__dict__[name] = function
    try:
        yield
    finally:
        del module.__dict__[name]
        module.__dict__.update(before)


def _method_attention(layer: int, module: nn.Module) -> Callable[..., Any]:
    def vanilla(a: Attention) -> Tensor:
        # Torch's kernel for the method's formula. The method itself keeps the whole map, and rounds float64 to float32.
        mask = a.mask.to(a.query.dtype)
        return nn.functional.scaled_dot_product_attention(a.query, a.key, a.value, attn_mask=mask, scale=a.scaling)

    def attn(query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor) -> tuple[Tensor, None]:
        scale = float(getattr(module, "scale_attn", 1.0)) ** -1  # GPT-Neo does not scale
        local = _local_mask(module, query, key)
        mask = attention_mask if local is None else attention_mask + local
        return _run(Attention(layer, query, key, value, mask, scale), vanilla), None

    return attn


def _local_mask(module: Any, query: Tensor, key: Tensor) -> Tensor | None:
    """GPT-Neo's local layers see a window that the model's mask does not tell of."""
    if getattr(module, "attention_type", None) != "local":
        return None
    n, m = query.shape[-2], key.shape[-2]
    visible = module.bias[:, :, m - n : m, :m]
    precision = torch.promote_types(query.dtype, torch.float32)
    # Large but far from the smallest float, since the model's own mask is added to it.
    return torch.zeros(visible.shape, dtype=precision, device=query.device).masked_fill(~visible, -1e9)


# --- a call of scaled_dot_product_attention (Falcon) ----------------------------------------------


@contextmanager
def _through_sdpa(model: PreTrainedModel) -> Iterator[None]:
    modules = [module for module in model.modules() if type(module).__name__ == "FalconAttention"]
    with ExitStack() as stack:
        for layer, module in enumerate(modules):
            stack.enter_context(replaced(module, "forward", _within(_Sdpa(layer), module.forward)))
        yield


def _within(mode: TorchFunctionMode, forward: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        with mode:
            return forward(*arguments, **named)

    return wrapped


class _Sdpa(TorchFunctionMode):
    """Catches the one attention call of a layer's forward."""

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = args
        mask = kwargs.get("attn_mask")
        if mask is None:  # the call says that it is causal, or one query sees all
            n, m = query.shape[-2], key.shape[-2]
            mask = torch.ones(n, m, dtype=torch.bool, device=query.device).tril(m - n)[None, None]
        if mask.dtype == torch.bool:
            lowest = torch.finfo(query.dtype).min
            mask = torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill(~mask, lowest)

        def vanilla(a: Attention) -> Tensor:
            return func(a.query, a.key, a.value, attn_mask=a.mask)

        return _run(Attention(self.layer, query, key, value, mask, query.shape[-1] ** -0.5), vanilla)


_FAMILIES: dict[str, Reach] = {
    "gptj": _through_method,
    "codegen": _through_method,
    "gpt_neo": _through_method,
    "falcon": _through_sdpa,
}
