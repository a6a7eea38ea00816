"""The plain way for any family: one whole prompt through its own eager code, whose attention softmax is caught.

No padding, no KV cache, nothing of anchorflow.attention. A softmax counts as a layer's attention if it is called within
the layer and its result is [head, query, key] of this prompt (with a column more where the family has attention sinks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

Change = Callable[[int, Tensor], Tensor]
"""(layer from 0, [1, head, query, key]) to the same shape."""
SOFTMAX = (torch.softmax, Tensor.softmax, nn.functional.softmax)
PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm)


class NoOracle(Exception):
    """A family whose eager code shows no attention map of its own for every layer."""


@dataclass
class Seen:
    """What a pass computed; lists have an entry per caught layer, keys are repeated for grouped queries."""

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    layers: list[int] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    query: list[Tensor] = field(default_factory=list)
    key: list[Tensor] = field(default_factory=list)

    def need(self, n_layers: int, why: str, all_layers: bool = False) -> None:
        """NoOracle unless every layer that has attention has one map, and with `all_layers` unless each has."""
        if not self.layers:
            raise NoOracle("no attention map is caught")
        if len(set(self.layers)) < len(self.layers) or len(self.layers) > n_layers:
            raise NoOracle(f"{len(self.layers)} attention maps in {n_layers} layers")
        if all_layers and len(self.layers) < n_layers:
            raise NoOracle(f"{why} through layers without attention: maps in {len(self.layers)} of {n_layers} layers")

    def maps(self, length: int) -> list[Tensor]:
        """[head, query, key] of every caught layer, without sinks."""
        return as_maps(self.weights, length)


def as_maps(tensors: Sequence[Tensor], length: int) -> list[Tensor]:
    """[head, query, key] of what has the shape of a caught softmax."""
    return [(tensor if tensor.ndim == 3 else tensor[0])[..., :length] for tensor in tensors]


def unchanged(layer: int, tensor: Tensor) -> Tensor:
    return tensor


class _Catch(TorchFunctionMode):
    def __init__(self, length: int, seen: Seen, of_scores: Change, of_weights: Change) -> None:
        super().__init__()
        self.length, self.seen, self.of_scores, self.of_weights = length, seen, of_scores, of_weights
        self.hooked = False
        self.layer: int | None = None
        self.product: tuple[Tensor, Tensor] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in PRODUCTS and len(args) == 2 and self._is_map(args[0].shape[:-1] + args[1].shape[-1:]):
            self.product = args
        elif func in (torch.baddbmm, Tensor.baddbmm):
            self.product = (*args[1:], *(kwargs[name] for name in ("batch1", "batch2") if name in kwargs))
        if func is torch.logsumexp and self.layer is not None and self._is_map(args[0].shape):
            # Granite scales by the sinks' share beside its softmax: both are of the same scores.
            return func(self.of_scores(self.layer, args[0]), *args[1:], **kwargs)
        if func not in SOFTMAX or (self.layer is None and self.hooked):
            return func(*args, **kwargs)
        scores = args[0] if args else kwargs["input"]
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if not self._is_map(scores.shape, extra=1) or dim not in (-1, scores.ndim - 1):
            return func(*args, **kwargs)
        return self._attention(func, scores, args, kwargs)

    def _is_map(self, shape: Sequence[int], extra: int = 0) -> bool:
        n = self.length
        if len(shape) not in (3, 4) or shape[-2] != n or not n <= shape[-1] <= n + extra:
            return False
        return len(shape) == 3 or shape[0] == 1

    def _attention(self, func: Any, scores: Tensor, args: Any, kwargs: Any) -> Tensor:
        layer = len(self.seen.layers) if self.layer is None else self.layer
        n, shape = self.length, scores.shape
        four = scores if scores.ndim == 4 else scores[None]
        changed = torch.cat([self.of_scores(layer, four[..., :n]), four[..., n:]], dim=-1).view(shape)
        if args:
            args = (changed, *args[1:])
        else:
            kwargs = {**kwargs, "input": changed}
        weights = func(*args, **kwargs)
        if torch.is_grad_enabled() and not weights.requires_grad:
            weights.requires_grad_()  # the first layer's depend on nothing
        self.seen.layers.append(layer)
        self.seen.weights.append(weights)
        if self.product is not None:
            query, key = self.product
            self.seen.query.append(query.reshape(-1, n, query.shape[-1]))
            self.seen.key.append(key.mT.reshape(-1, n, key.shape[-2]))
        four = weights if weights.ndim == 4 else weights[None]
        return torch.cat([self.of_weights(layer, four[..., :n]), four[..., n:]], dim=-1).view(shape)


def run(
    model: PreTrainedModel, ids: Sequence[int], of_scores: Change = unchanged, of_weights: Change = unchanged
) -> Seen:
    """One forward pass over a whole prompt."""
    seen = Seen()
    catch = _Catch(len(ids), seen, of_scores, of_weights)
    with ExitStack() as stack:
        for layers in layer_lists(model):
            catch.hooked = True  # without such a list, layers are counted by their softmax
            for number, layer in enumerate(layers):
                for hook in _within(catch, number, layer):
                    stack.callback(hook.remove)
        stack.enter_context(catch)
        seen.logits = model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
    return seen


def _within(catch: _Catch, number: int, layer: nn.Module) -> Iterator[Any]:
    def enter(*_: Any) -> None:
        catch.layer, catch.product = number, None

    def leave(*_: Any) -> None:
        catch.layer = None

    yield layer.register_forward_pre_hook(enter)
    yield layer.register_forward_hook(leave)


def layer_lists(model: PreTrainedModel) -> list[nn.ModuleList]:
    """Every list that may be that of the text's layers: as long, and within no other such list (experts, say, are).

    A vision tower may have one as well; on text nobody calls it.
    """
    count = n_layers(model)
    found = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count}
    return [module for name, module in found.items() if not any(name.startswith(f"{other}.") for other in found)]


def n_layers(model: PreTrainedModel) -> int:
    """As the configuration says of the decoder."""
    text = model.config.get_text_config(decoder=True)
    names = ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "num_layers")
    return next((int(getattr(text, name)) for name in names if hasattr(text, name)), 0)


def logits_at(model: PreTrainedModel, ids: Sequence[int], of_scores: Change = unchanged) -> Tensor:
    """At the last token."""
    with torch.no_grad():
        return run(model, ids, of_scores).logits[-1].float()


def hidden_from(
    rows: Sequence[int], columns_of: Callable[[int], Sequence[int] | range], layers: Sequence[int]
) -> Change:
    """A change of scores: in these layers these rows do not see their columns."""

    def change(layer: int, scores: Tensor) -> Tensor:
        if layer not in layers:
            return scores
        scores = scores.clone()
        for row in rows:
            scores[:, :, row, list(columns_of(row))] = -math.inf
        return scores

    return change
