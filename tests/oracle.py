"""The plain way: one full prompt through eager attention written out here, open to change, nothing shared or cached.

It knows nothing of anchorflow.attention, which is tested against it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from anchorflow.models import LanguageModel

Change = Callable[[int, Tensor], Tensor]
"""(layer from 0, [head, query, key]) to the same shape."""


@dataclass
class Seen:
    """What a pass computed; a list has an entry per layer, key and value heads are repeated for grouped queries."""

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    weights: list[Tensor] = field(default_factory=list)
    query: list[Tensor] = field(default_factory=list)
    key: list[Tensor] = field(default_factory=list)


def unchanged(layer: int, tensor: Tensor) -> Tensor:
    return tensor


_now: tuple[Seen, Change, Change] = (Seen(), unchanged, unchanged)


def _attend(query, key, value, mask, scaling):  # type: ignore[no-untyped-def]
    seen, of_scores, of_weights = _now
    layer = len(seen.weights)
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(-1, -2) * scaling + mask
    weights = torch.softmax(of_scores(layer, scores[0]), dim=-1)
    if torch.is_grad_enabled() and not weights.requires_grad:
        weights.requires_grad_()  # the first layer's depend on nothing
    seen.weights.append(weights)
    seen.query.append(query[0])
    seen.key.append(key[0])
    return of_weights(layer, weights)[None] @ value


def _interface(module, query, key, value, attention_mask, scaling=None, **_):  # type: ignore[no-untyped-def]
    return _attend(query, key, value, attention_mask, scaling).transpose(1, 2), None


AttentionInterface.register("oracle", _interface)
AttentionMaskInterface.register("oracle", eager_mask)


def run(
    lm: LanguageModel,
    ids: Sequence[int],
    of_scores: Change = unchanged,
    of_weights: Change = unchanged,
    positions: Sequence[int] | None = None,
) -> Seen:
    """One forward pass. `of_scores` changes scores before the softmax, `of_weights` the weights after it."""
    global _now
    seen = Seen()
    _now = (seen, of_scores, of_weights)
    before = lm.model.config._attn_implementation
    patched = [module for module in lm.model.modules() if hasattr(module, "_attn")]
    given = {} if positions is None else {"position_ids": torch.tensor([list(positions)])}
    try:
        lm.model.config._attn_implementation = "eager" if patched else "oracle"
        for module in patched:
            scale = 1 / module.scale_attn
            module._attn = lambda q, k, v, mask, scale=scale: (_attend(q, k, v, mask, scale), None)
        ones = torch.ones(1, len(ids), dtype=torch.long)
        seen.logits = lm.model(input_ids=torch.tensor([list(ids)]), attention_mask=ones, **given).logits[0]
    finally:
        lm.model.config._attn_implementation = before
        for module in patched:
            del module._attn
    return seen
