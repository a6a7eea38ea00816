"""The attention of the target position to other positions, in particular label words (Label Words are Anchors, sec. 2.3)."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anchorflow.attention.core import Attention, attention_weights, fold_mask, fold_sinks
from anchorflow.attention.reach import Attend


def target_weights(attention: Attention, targets: Int[Tensor, " batch"]) -> Float[Tensor, "batch head key"]:
    """Row q of every head's attention map: `targets` count within the queries of this pass."""
    batch, heads, _, dim = attention.query.shape
    kv_heads = attention.key.shape[1]
    alone = of_target(attention, targets)
    query = alone.query.reshape(batch, kv_heads, attention.group, dim)
    mask = fold_mask(alone.mask, kv_heads, attention.group)
    sinks = fold_sinks(alone.sinks, kv_heads, 1)
    weights = attention_weights(query, attention.key, mask, attention.scaling, attention.softcap, sinks)
    return weights.reshape(batch, heads, -1)


def of_target(attention: Attention, targets: Int[Tensor, " batch"]) -> Attention:
    """The attention of the query position q only."""
    targets = targets.to(attention.query.device)
    rows = torch.arange(len(targets), device=targets.device)
    sinks = attention.sinks
    if sinks is not None and sinks.shape[2] > 1:
        sinks = sinks.expand(len(targets), -1, -1, -1)[rows, :, targets][:, :, None]
    query = attention.query[rows, :, targets][:, :, None]
    return replace(attention, query=query, mask=mask_of_target(attention, targets), sinks=sinks)


def mask_of_target(attention: Attention, targets: Int[Tensor, " batch"]) -> Float[Tensor, "batch mask_head 1 key"]:
    """The row of the mask for q."""
    mask = attention.mask.expand(len(targets), -1, -1, -1)
    return mask[torch.arange(len(targets), device=targets.device), :, targets][:, :, None]


class LabelAttention:
    """A tap that reads Σ_h A[l,h](q, p_k) in every layer."""

    def __init__(self, anchors: Int[Tensor, "batch anchor"], targets: Int[Tensor, " batch"]) -> None:
        self._anchors, self._targets = anchors, targets
        self._found: dict[int, Tensor] = {}

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        weights = target_weights(attention, self._targets).sum(dim=1)
        self._found[attention.layer] = weights.gather(1, self._anchors.to(weights.device))
        return attend(attention)

    def read(self) -> Float[Tensor, "layer batch anchor"]:
        """The attention in the last pass, on the CPU in float64."""
        return by_layer(self._found)


def by_layer(found: Mapping[int, Float[Tensor, "..."]]) -> Float[Tensor, "layer ..."]:
    """The tensors of all layers stacked, on the CPU in float64; it waits for a GPU once, not once per layer."""
    device = next(iter(found.values())).device
    return torch.stack([found[layer].to(device) for layer in sorted(found)]).cpu().double()
