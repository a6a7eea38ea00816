"""The target position's view of the label words: reading it (sec. 2.3), changing its weights (sec. 3.1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anchorflow.attention.backend import Attend
from anchorflow.attention.core import Attention, attention_weights, fold_mask


def target_weights(attention: Attention, targets: Int[Tensor, " batch"]) -> Float[Tensor, "batch head key"]:
    """Row q of every head's attention map: `targets` count within the queries of this pass."""
    batch, heads, _, dim = attention.query.shape
    kv_heads = attention.key.shape[1]
    rows, targets = torch.arange(batch, device=attention.query.device), targets.to(attention.query.device)
    query = attention.query[rows, :, targets].reshape(batch, kv_heads, attention.group, dim)
    mask = attention.mask
    if mask is not None:
        mask = mask.expand(batch, *mask.shape[1:])[rows, :, targets][:, :, None]
        mask = fold_mask(mask, kv_heads, attention.group)
    weights = attention_weights(query, attention.key, mask, attention.scaling, attention.softcap)
    return weights.reshape(batch, heads, -1)


class LabelAttention:
    """A tap that reads Σ_h A[l,h](q, p_k) in every layer; `found` holds [layer, batch, anchor] after the pass."""

    def __init__(self, n_layers: int, anchors: Int[Tensor, "batch anchor"], targets: Int[Tensor, " batch"]) -> None:
        self.found = torch.zeros(n_layers, *anchors.shape, dtype=torch.float64, device="cpu")
        self._anchors, self._targets = anchors, targets

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        weights = target_weights(attention, self._targets).sum(dim=1)
        self.found[attention.layer] = weights.gather(1, self._anchors.to(weights.device)).cpu().double()
        return attend(attention)


class Reweight:
    """A tap: A'[l,h](q, p_k) = exp(β[l,h,k]) · A[l,h](q, p_k), not renormalised. No other row changes."""

    def __init__(
        self,
        beta: Float[Tensor, "layer head anchor"],
        anchors: Int[Tensor, "batch anchor"],
        targets: Int[Tensor, " batch"],
    ) -> None:
        self._beta, self._anchors, self._targets = beta, anchors, targets

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        output = attend(attention)
        device = output.device
        batch, heads, _, dim = output.shape
        rows, targets, anchors = (t.to(device) for t in (torch.arange(batch), self._targets, self._anchors))
        weights = target_weights(attention, targets)
        more = torch.expm1(self._beta[attention.layer].to(device)).to(weights.dtype)  # what exp(β) adds to 1
        more = more * weights.gather(2, anchors[:, None].expand(-1, heads, -1))
        value = (
            attention.value[rows[:, None], :, anchors].transpose(1, 2).to(weights.dtype)
        )  # [batch, kv_head, anchor, dim]
        added = more.reshape(batch, value.shape[1], attention.group, -1) @ value
        added = added.reshape(batch, heads, dim).to(output.dtype)
        if output.shape[2] == 1:
            return output + added[:, :, None]
        changed = output.clone()
        changed[rows, :, targets] += added
        return changed
