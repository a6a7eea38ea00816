"""The target position's view of the label words: reading it (sec. 2.3), changing its weights (sec. 3.1)."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anchorflow.attention.backend import Attend
from anchorflow.attention.core import Attention, attention_weights, fold_mask


def target_weights(attention: Attention, targets: Int[Tensor, " batch"]) -> Float[Tensor, "batch head key"]:
    """Row q of every head's attention map: `targets` count within the queries of this pass."""
    return _weights(of_target(attention, targets))


def of_target(attention: Attention, targets: Int[Tensor, " batch"]) -> Attention:
    """The same with the query position q alone."""
    targets = targets.to(attention.query.device)
    query = attention.query[torch.arange(len(targets), device=targets.device), :, targets][:, :, None]
    return replace(attention, query=query, mask=_row(attention, targets))


def _weights(attention: Attention) -> Float[Tensor, "batch head key"]:
    """The attention map of a pass with one query position."""
    batch, heads, _, dim = attention.query.shape
    kv_heads = attention.key.shape[1]
    query = attention.query.reshape(batch, kv_heads, attention.group, dim)
    mask = fold_mask(attention.mask, kv_heads, attention.group)
    weights = attention_weights(query, attention.key, mask, attention.scaling, attention.softcap)
    return weights.reshape(batch, heads, -1)


def _row(attention: Attention, targets: Int[Tensor, " batch"]) -> Float[Tensor, "batch mask_head 1 key"]:
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


class Seen:
    """A tap that notes what the target sees of a pass; then the target can go through the model again, alone.

    What changes row q and no other leaves the keys and values of all other positions as they were. Within
    `tapped(model, seen.alone, ...)` a pass takes the target's token and position, and nothing else.

    Args:
        n_layers: layers of the model.
        targets: the last position q of each prompt, within the queries of the pass.
        shared: so many positions at the beginning are the same in all prompts, and are kept once.
    """

    def __init__(self, n_layers: int, targets: Int[Tensor, " batch"], shared: int = 0) -> None:
        self._targets, self._shared = targets, shared
        # Of each layer: keys and values that all prompts share, and their own, and the mask.
        self._layers: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = [(torch.empty(0),) * 5] * n_layers

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        targets = self._targets.to(attention.query.device)
        row = _row(attention, targets)
        place = (targets + attention.key.shape[2] - attention.query.shape[2])[:, None, None, None]
        place = place.expand(-1, row.shape[1], -1, -1)
        # The target comes again after all others, and does not see what it was.
        mask = torch.cat([row.scatter(3, place, torch.finfo(row.dtype).min), row.gather(3, place)], dim=3)
        parts = [(t[:1, :, : self._shared], t[:, :, self._shared :]) for t in (attention.key, attention.value)]
        (shared_key, own_key), (shared_value, own_value) = ((a.clone(), b.clone()) for a, b in parts)
        self._layers[attention.layer] = (shared_key, own_key, shared_value, own_value, mask)
        return attend(attention)

    def alone(self, attention: Attention, attend: Attend) -> Tensor:
        """A tap: the target, which is all of this pass, sees itself and what was noted."""
        shared_key, own_key, shared_value, own_value, mask = self._layers[attention.layer]
        batch = len(self._targets)
        key = torch.cat([shared_key.expand(batch, -1, -1, -1), own_key, attention.key], dim=2)
        value = torch.cat([shared_value.expand(batch, -1, -1, -1), own_value, attention.value], dim=2)
        return attend(replace(attention, key=key, value=value, mask=mask))

    def of(self, row: int) -> "Seen":
        """The same for one prompt of the batch."""
        one = slice(row, row + 1)
        found = Seen(0, self._targets[one], self._shared)
        found._layers = [(k, own_k[one], v, own_v[one], mask[one]) for k, own_k, v, own_v, mask in self._layers]
        return found


class Reweight:
    """A tap where the target is alone: A'[l,h](q, p_k) = exp(β[l,h,k]) · A[l,h](q, p_k), not renormalised."""

    def __init__(self, beta: Float[Tensor, "layer head anchor"], anchors: Int[Tensor, "batch anchor"]) -> None:
        self._factors, self._anchors = beta.exp(), anchors

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        weights = _weights(attention)
        batch, heads, _ = weights.shape
        anchors = self._anchors.to(weights.device)[:, None].expand(-1, heads, -1)
        factors = self._factors[attention.layer].to(weights.device, weights.dtype).expand(batch, -1, -1)
        weights = weights * torch.ones_like(weights).scatter(2, anchors, factors)
        value = attention.value.to(weights.dtype)
        output = weights.view(batch, value.shape[1], attention.group, -1) @ value
        return output.view(batch, heads, 1, -1).to(attention.query.dtype)
