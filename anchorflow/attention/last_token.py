"""Compute only the last token: prefill a prompt once, then run only its target position through the model repeatedly.

A change of row q of the attention maps leaves the keys and values of all other positions unchanged. Re-weighting is such a
change (Label Words are Anchors, sec. 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from anchorflow.attention.backend import Tap
from anchorflow.attention.core import Attention, fold_mask, fold_sinks, softmax_of
from anchorflow.attention.reach import Attend
from anchorflow.attention.target import mask_of_target
from anchorflow.models import to_device

Change = Callable[[int, Tensor], Tensor]
"""Maps a layer and row q of its attention maps, [batch, head, position], to the changed row q."""


@dataclass(frozen=True)
class _Layer:
    """What the targets see in a layer: the first positions are shared by all prompts, each has its own others."""

    shared_key: Tensor
    """[1, kv_head, shared, dim], as `shared_value`; `key` and `value` are [batch, kv_head, own, dim]."""
    shared_value: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor
    """[batch, mask_head, 1, shared + own]"""
    itself: Tensor
    """[batch, mask_head, 1, 1]: the target is appended after all others and does not see its earlier self."""

    def of(self, rows: Int[Tensor, " row"]) -> _Layer:
        """The same for these prompts only."""
        parts = (self.key, self.value, self.mask, self.itself)
        key, value, mask, itself = (t.index_select(0, rows.to(t.device)) for t in parts)
        return replace(self, key=key, value=value, mask=mask, itself=itself)

    def joined(self, others: Sequence[_Layer]) -> _Layer:
        """These prompts and those of other passes, padded to the longest; the padding is masked."""
        every = (self, *others)
        lowest, longest = torch.finfo(self.mask.dtype).min, max(a.key.shape[2] for a in every)
        more = [longest - a.key.shape[2] for a in every]
        key = torch.cat([pad(a.key, (0, 0, 0, n)) for a, n in zip(every, more, strict=True)])
        value = torch.cat([pad(a.value, (0, 0, 0, n)) for a, n in zip(every, more, strict=True)])
        mask = torch.cat([pad(a.mask, (0, n), value=lowest) for a, n in zip(every, more, strict=True)])
        return replace(self, key=key, value=value, mask=mask, itself=torch.cat([a.itself for a in every]))


class Seen:
    """A tap that stores what the targets see in a pass, so that later passes need only the target tokens.

    Args:
        targets: the last position q of each prompt, within the queries of the pass.
        shared: the number of leading positions that all prompts share; they are stored once.
    """

    def __init__(self, targets: Int[Tensor, " batch"], shared: int = 0) -> None:
        self._targets, self._shared = targets, shared
        self._layers: dict[int, _Layer] = {}

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        targets = self._targets.to(attention.query.device)
        row = mask_of_target(attention, targets)
        place = (targets + attention.key.shape[2] - attention.query.shape[2])[:, None, None, None]
        place = place.expand(-1, row.shape[1], -1, -1)
        parts = [(t[:1, :, : self._shared], t[:, :, self._shared :]) for t in (attention.key, attention.value)]
        (shared_key, key), (shared_value, value) = ((a.clone(), b.clone()) for a, b in parts)
        mask = row.scatter(3, place, torch.finfo(row.dtype).min)
        self._layers[attention.layer] = _Layer(shared_key, shared_value, key, value, mask, row.gather(3, place))
        return attend(attention)

    def of(self, rows: Sequence[int]) -> Seen:
        """The same for some prompts of the batch, in this order; a prompt may occur several times."""
        places = to_device(rows, self._targets.device)
        found = Seen(self._targets[places], self._shared)
        found._layers = {layer: noted.of(places) for layer, noted in self._layers.items()}
        return found

    def joined(self, others: Sequence[Seen]) -> Seen:
        """Join these prompts with those of other passes that share the same leading positions."""
        found = Seen(torch.cat([self._targets, *(other._targets for other in others)]), self._shared)
        found._layers = {
            layer: noted.joined([other._layers[layer] for other in others]) for layer, noted in self._layers.items()
        }
        return found

    def alone(self, change: Change | None = None) -> Tap:
        """A tap for passes over the target tokens only, at their positions."""

        def tap(attention: Attention, attend: Attend) -> Tensor:
            seen = self._layers[attention.layer]
            batch, heads, _, dim = attention.query.shape
            kv_heads, group = attention.key.shape[1], attention.group
            precision = torch.promote_types(attention.query.dtype, torch.float32)
            query = attention.query.to(precision).reshape(batch, kv_heads, group, dim)
            shared_key, key, own_key = (t.to(precision) for t in (seen.shared_key, seen.key, attention.key))
            products = [_with_shared(query, shared_key.mT), query @ key.mT, query @ own_key.mT]
            mask = fold_mask(torch.cat([seen.mask, seen.itself], dim=3), kv_heads, group)
            sinks = fold_sinks(attention.sinks, kv_heads, 1)
            weights = softmax_of(torch.cat(products, dim=3), mask, attention.scaling, attention.softcap, sinks)
            if change is not None:
                weights = change(attention.layer, weights.view(batch, heads, -1)).view(weights.shape)
            shared_value, value, own_value = (t.to(precision) for t in (seen.shared_value, seen.value, attention.value))
            on_shared, on_rest, on_itself = torch.split(weights, [shared_key.shape[2], key.shape[2], 1], dim=3)
            output = _with_shared(on_shared, shared_value) + on_rest @ value + on_itself * own_value
            return output.reshape(batch, heads, 1, -1).to(attention.query.dtype)

        return tap


def _with_shared(
    rows: Float[Tensor, "batch kv_head row x"], shared: Float[Tensor, "1 kv_head x y"]
) -> Float[Tensor, "batch kv_head row y"]:
    """rows @ shared, as one product over the rows of all prompts: the shared tensor is read once and not copied."""
    batch, kv_heads, row, _ = rows.shape
    folded = rows.transpose(0, 1).reshape(kv_heads, batch * row, -1)
    return (folded @ shared[0]).view(kv_heads, batch, row, -1).transpose(0, 1)


def reweighted(beta: Float[Tensor, "batch layer head anchor"], anchors: Int[Tensor, "batch anchor"]) -> Change:
    """A'[l,h](q, p_k) = exp(β[l,h,k]) · A[l,h](q, p_k), not renormalised (sec. 3.1); each prompt has its own β."""
    factors = beta.exp()

    def change(layer: int, weights: Tensor) -> Tensor:
        places = anchors.to(weights.device)[:, None].expand(-1, weights.shape[1], -1)
        wanted = factors[:, layer].to(weights.device, weights.dtype)
        return weights * torch.ones_like(weights).scatter(2, places, wanted)

    return change
