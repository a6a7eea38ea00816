"""The target position's view of the other positions, above all of the label words (Label Words are Anchors, sec. 2.3)."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anchorflow.attention.backend import Attend
from anchorflow.attention.core import Attention, attention_weights, fold_mask


def target_weights(attention: Attention, targets: Int[Tensor, " batch"]) -> Float[Tensor, "batch head key"]:
    """Row q of every head's attention map: `targets` count within the queries of this pass."""
    batch, heads, _, dim = attention.query.shape
    kv_heads = attention.key.shape[1]
    alone = of_target(attention, targets)
    query = alone.query.reshape(batch, kv_heads, attention.group, dim)
    mask = fold_mask(alone.mask, kv_heads, attention.group)
    weights = attention_weights(query, attention.key, mask, attention.scaling, attention.softcap)
    return weights.reshape(batch, heads, -1)


def of_target(attention: Attention, targets: Int[Tensor, " batch"]) -> Attention:
    """The same with the query position q alone."""
    targets = targets.to(attention.query.device)
    query = attention.query[torch.arange(len(targets), device=targets.device), :, targets][:, :, None]
    return replace(attention, query=query, mask=mask_of_target(attention, targets))


def mask_of_target(attention: Attention, targets: Int[Tensor, " batch"]) -> Float[Tensor, "batch mask_head 1 key"]:
    """What the mask says of q."""
    mask = attention.mask.expand(len(targets), -1, -1, -1)
    return mask[torch.arange(len(targets), device=targets.device), :, targets][:, :, None]


class LabelAttention:
    """A tap that reads Σ_h A[l,h](q, p_k) in every layer; `found` holds [layer, batch, anchor] after the pass."""

    def __init__(self, n_layers: int, anchors: Int[Tensor, "batch anchor"], targets: Int[Tensor, " batch"]) -> None:
        self.found = torch.zeros(n_layers, *anchors.shape, dtype=torch.float64, device="cpu")
        self._anchors, self._targets = anchors, targets

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        weights = target_weights(attention, self._targets).sum(dim=1)
        self.found[attention.layer] = weights.gather(1, self._anchors.to(weights.device)).cpu().double()
        return attend(attention)
