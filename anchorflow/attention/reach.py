"""Intercept a model's attention: the only module that knows how model families compute it.

The structure of a layer's modules decides, not the name of the family. Most families look up their attention function in
transformers' AttentionInterface. Some have a method `_attn` (GPT-J, GPT-Neo, CodeGen). In the others, calls within the
layer's forward are intercepted: scaled_dot_product_attention (Falcon), or a softmax between two products (BLOOM, MPT).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, PreTrainedModel

from anchorflow.attention.core import Attention
from anchorflow.errors import UserError

Attend = Callable[[Attention], Tensor]
"""Computes an attention; returns [batch, head, query, dim]."""

Run = Callable[[Attention, Attend], Tensor]
"""Called with each layer's attention and the function that computes it as the model would."""


def decoder_config(model: PreTrainedModel) -> Any:
    """The configuration of the decoder, also if it is one part of a larger model."""
    return model.config.get_text_config(decoder=True)


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The model's decoder layers in order. UserError if they are not in one list."""
    n_layers = decoder_config(model).num_hidden_layers
    for name, module in model.base_model.named_modules():
        of_text = not any(part in name for part in ("vision", "visual", "image", "audio"))
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and of_text:
            return module
    raise UserError(f"model type {model.config.model_type!r} does not keep its {n_layers} layers in one list.")


@contextmanager
def reached(model: PreTrainedModel, run: Run) -> Iterator[None]:
    """Within the block, every attention layer calls `run`."""
    if model not in _WAYS:
        _WAYS[model] = _Ways.of(model)
    ways = _WAYS[model]
    with ExitStack() as stack:
        stack.enter_context(_through_interface(ways.configs, run))
        for layer, module in ways.methods:
            stack.enter_context(replaced(module, "_attn", _method_attention(layer, module, run)))
        for layer, module in ways.caught:
            stack.enter_context(replaced(module, "forward", _within(_Caught(layer, run), module.forward)))
        yield


@contextmanager
def replaced(module: nn.Module, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Override a method of this one module within the block; an override by an offloading library is restored."""
    before = {name: module.__dict__[name]} if name in module.__dict__ else {}
    module.__dict__[name] = function
    try:
        yield
    finally:
        del module.__dict__[name]
        module.__dict__.update(before)


@dataclass(frozen=True)
class _Ways:
    """The parts of a model to override within a block."""

    configs: tuple[Any, ...]
    methods: tuple[tuple[int, nn.Module], ...]
    caught: tuple[tuple[int, nn.Module], ...]

    @classmethod
    def of(cls, model: PreTrainedModel) -> _Ways:
        configs = {}
        if any(_asks_interface(module) for module in model.modules()):
            owners = (module.config for module in model.modules() if hasattr(module, "config"))
            configs = {id(config): config for config in owners if hasattr(config, "_attn_implementation")}
        methods, caught = [], []
        for layer, block in enumerate(decoder_layers(model)):
            own = [module for module in block.modules() if _has_method(module)]
            methods += [(layer, module) for module in own]
            if not own and not any(_asks_interface(module) for module in block.modules()):
                caught.append((layer, block))
        return cls(tuple(configs.values()), tuple(methods), tuple(caught))


_WAYS: WeakKeyDictionary[PreTrainedModel, _Ways] = WeakKeyDictionary()


def _has_method(module: nn.Module) -> bool:
    method = getattr(type(module), "_attn", None)
    wanted = ["self", "query", "key", "value", "attention_mask"]
    return method is not None and list(inspect.signature(method).parameters)[: len(wanted)] == wanted


def _asks_interface(module: nn.Module) -> bool:
    return hasattr(sys.modules[type(module).__module__], "ALL_ATTENTION_FUNCTIONS")


# --- AttentionInterface ---------------------------------------------------------------------------

_EAGER = "eager"
"""Modules check this name, too: only for it do all of them merge everything they know about visibility into the mask."""

_UNDERSTOOD = {"dropout", "softcap", "position_bias", "sinks", "s_aux", "sliding_window"}
"""Further arguments of an eager attention; the mask already includes the sliding window."""


@contextmanager
def _through_interface(configs: tuple[Any, ...], run: Run) -> Iterator[None]:
    # The setter of PreTrainedModel walks all modules and may warn; layers read the attribute.
    before = [(config, config._attn_implementation) for config in configs]
    implementation = next((name for _, name in before if name is not None), "sdpa")

    def attention(module: Any, query: Tensor, key: Tensor, value: Tensor, *arguments: Any, **named: Any) -> Any:
        return _interface_attention(run, implementation, module, query, key, value, *arguments, **named)

    table = AttentionInterface._global_mapping
    outer = table.get(_EAGER)
    table[_EAGER] = attention
    for config in configs:
        config._attn_implementation = _EAGER
    try:
        yield
    finally:
        for config, name in before:
            config._attn_implementation = name
        if outer is None:
            del table[_EAGER]
        else:
            table[_EAGER] = outer


def _interface_attention(
    run: Run,
    implementation: str,
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Replaces the module's eager attention, which defines what it computes.

    [batch, head, query, dim] in, [batch, query, head, dim] out, as in transformers.
    """
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    named = set(inspect.signature(eager).parameters) if eager is not None else set()
    if unknown := sorted(name for name in (named & set(others)) - _UNDERSTOOD if others[name] is not None):
        raise UserError(
            f"{type(module).__name__} passes {', '.join(unknown)} to its attention, which taps do not know."
        )
    softcap, sinks = others.get("softcap"), _sinks(others, query)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    bias = others.pop("position_bias", None)
    if attention_mask is None:  # every position sees every other
        attention_mask = query.new_zeros(1, 1, query.shape[2], key.shape[2])
    mask = attention_mask if bias is None else attention_mask + bias
    # Torch's kernel, unless the eager function has one of these, which the kernel lacks.
    plain = implementation == "sdpa" and softcap is None and sinks is None
    function: Any = AttentionInterface().get("sdpa") if plain or eager is None else eager

    def vanilla(a: Attention) -> Tensor:
        given = others if others.get("sinks") is None else {**others, "sinks": a.sinks}
        return function(module, a.query, a.key, a.value, a.mask, scaling=a.scaling, **given)[0].transpose(1, 2)

    found = run(Attention(module.layer_idx, query, key, value, mask, scale, softcap, sinks), vanilla)
    return found.transpose(1, 2).contiguous(), None


def _sinks(others: dict[str, Any], query: Tensor) -> Tensor | None:
    """The sinks, one per head or one per row and head."""
    given = others.get("sinks")
    given = others.get("s_aux") if given is None else given
    if given is None:
        return None
    return given.reshape(1, -1, 1, 1) if given.ndim == 1 else given.expand(*query.shape[:3], 1)


# --- a method `_attn` -----------------------------------------------------------------------------


def _by_kernel(a: Attention) -> Tensor:
    """Torch's kernel instead of a family's own formula, which would keep the whole map and may round float64."""
    mask = a.mask.to(a.query.dtype)
    return nn.functional.scaled_dot_product_attention(a.query, a.key, a.value, attn_mask=mask, scale=a.scaling)


def _method_attention(layer: int, module: nn.Module, run: Run) -> Callable[..., Any]:
    def attn(query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor) -> tuple[Tensor, None]:
        scale = float(getattr(module, "scale_attn", 1.0)) ** -1  # GPT-Neo does not scale
        local = _local_mask(module, query, key)
        mask = attention_mask if local is None else attention_mask + local
        return run(Attention(layer, query, key, value, mask, scale), _by_kernel), None

    return attn


def _local_mask(module: Any, query: Tensor, key: Tensor) -> Tensor | None:
    """GPT-Neo's local layers have a window that is not in the model's mask."""
    if getattr(module, "attention_type", None) != "local":
        return None
    n, m = query.shape[-2], key.shape[-2]
    visible = module.bias[:, :, m - n : m, :m]
    precision = torch.promote_types(query.dtype, torch.float32)
    # Large, but far from the smallest float: the model's own mask is added to it.
    return torch.zeros(visible.shape, dtype=precision, device=query.device).masked_fill(~visible, -1e9)


# --- calls in the middle of a layer's forward -----------------------------------------------------


def _within(mode: _Caught, forward: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        hidden = arguments[0] if arguments else named["hidden_states"]
        with mode.of_batch(len(hidden)):
            return forward(*arguments, **named)

    return wrapped


_PRODUCTS = {torch.matmul, torch.bmm, torch.Tensor.matmul, torch.Tensor.bmm, torch.Tensor.__matmul__}
_SUMS = {torch.baddbmm, torch.Tensor.baddbmm}
_SOFTMAX = {nn.functional.softmax, torch.softmax, torch.Tensor.softmax}
_TIMES = {"mul", "mul_", "__mul__", "__imul__", "__rmul__", "multiply"}
_OVER = {"div", "div_", "__truediv__", "__itruediv__", "true_divide", "divide"}


class _Caught(TorchFunctionMode):
    """Intercepts the one attention of a layer's forward: a call of torch's kernel, or products around a softmax."""

    def __init__(self, layer: int, run: Run) -> None:
        super().__init__()
        self._layer, self._run = layer, run
        self._batch = 1
        self._product: tuple[Tensor, Tensor, Tensor, float] | None = None
        """Queries, keys, their product after scaling, and the scale."""
        self._scores: Tensor | None = None

    @contextmanager
    def of_batch(self, size: int) -> Iterator[None]:
        """Within the block, the calls of a pass over this number of prompts are intercepted."""
        self._batch, self._product, self._scores = size, None, None
        with self:
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            return self._kernel(func, *args, **kwargs)
        if func in _PRODUCTS and self._scores is not None and _as_large(args[0], self._scores):
            return self._attention(args[1])
        found = func(*args, **kwargs)
        if func in _PRODUCTS and args[0].ndim > 2:
            self._product = (args[0], args[1], found, 1.0)
        elif func in _SUMS:
            rows, columns = args[1:3] if len(args) > 2 else (kwargs["batch1"], kwargs["batch2"])
            alpha = float(kwargs.get("alpha", 1))
            self._product = (rows, columns, torch.bmm(rows, columns) * alpha, alpha)
        elif self._product is not None and args and args[0] is self._product[2]:
            self._scaled(func, args, found)
        if func in _SOFTMAX and self._product is not None and _as_large(args[0], self._product[2]):
            self._scores = args[0]
        return found

    def _scaled(self, func: Any, args: Any, found: Any) -> None:
        """Track a scaling of the product before anything is added to it."""
        assert self._product is not None
        name = getattr(func, "__name__", "")
        if len(args) > 1 and name in _TIMES | _OVER and (not isinstance(args[1], Tensor) or args[1].ndim == 0):
            rows, columns, _, alpha = self._product
            factor = float(args[1])
            self._product = (rows, columns, found, alpha * factor if name in _TIMES else alpha / factor)

    def _attention(self, value: Tensor) -> Tensor:
        """Replace the product of weights and values: both sides of the softmax are now known."""
        assert self._product is not None
        assert self._scores is not None
        (rows, columns, product, alpha), scores = self._product, self._scores
        self._product = self._scores = None
        query, key, values = (self._split(t) for t in (rows, columns.mT, value))
        scores, product = (t.reshape(*query.shape[:3], key.shape[2]) for t in (scores, product))
        precision = torch.promote_types(query.dtype, torch.float32)
        # Everything that is added to the products: masks, position biases.
        mask = scores.to(precision) - product.to(precision)
        found = self._run(Attention(self._layer, query, key, values, mask, alpha), _by_kernel)
        return found.reshape(*rows.shape[:-1], value.shape[-1])

    def _split(self, tensor: Tensor) -> Tensor:
        """The tensor as [batch, head, position, dim]."""
        return tensor.reshape(self._batch, -1, *tensor.shape[-2:])

    def _kernel(
        self, func: Any, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **others: Any
    ) -> Tensor:
        mask = attn_mask
        if mask is None:  # the call is causal, or has a single query that sees all
            n, m = query.shape[-2], key.shape[-2]
            mask = torch.ones(n, m, dtype=torch.bool, device=query.device).tril(m - n)[None, None]
        if mask.dtype == torch.bool:
            lowest = torch.finfo(query.dtype).min
            mask = torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill(~mask, lowest)

        def vanilla(a: Attention) -> Tensor:
            return func(a.query, a.key, a.value, attn_mask=a.mask, scale=a.scaling)

        scale = others.get("scale") or query.shape[-1] ** -0.5
        return self._run(Attention(self._layer, query, key, value, mask, scale), vanilla)


def _as_large(tensor: Tensor, other: Tensor) -> bool:
    return tensor.ndim > 2 and tensor.numel() == other.numel() and tensor.shape[-2:] == other.shape[-2:]
