"""One layer's attention as plain tensors, the same for every model family."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Attention:
    """The inputs of one layer's attention. `layer` counts from 0.

    Grouped-query models have fewer key heads than query heads; query head h reads key head h // group.
    `mask` is added to the scores (0 where a position is visible); position biases (ALiBi) are part of it.
    `sinks` are the scores of an extra key without a value (gpt_oss), which takes a share of each row's softmax.
    """

    layer: int
    query: Float[Tensor, "batch head query dim"]
    key: Float[Tensor, "batch kv_head key dim"]
    value: Float[Tensor, "batch kv_head key dim"]
    mask: Float[Tensor, "mask_batch mask_head query key"]
    scaling: float
    softcap: float | None = None
    sinks: Float[Tensor, "sink_batch head sink_query 1"] | None = None

    @property
    def group(self) -> int:
        """Query heads per key head."""
        return self.query.shape[1] // self.key.shape[1]


def fold_mask(
    mask: Float[Tensor, "mask_batch mask_head query key"], kv_heads: int, group: int
) -> Float[Tensor, "mask_batch folded_head row key"]:
    """The mask for rows that concatenate the `group` query heads of each key head.

    In this form, a grouped-query layer is a plain batched product; keys and values need not be repeated.
    """
    if mask.shape[1] > 1:
        return mask.reshape(mask.shape[0], kv_heads, group * mask.shape[2], -1)
    return mask.repeat(1, 1, group, 1) if group > 1 else mask


def fold_sinks(
    sinks: Float[Tensor, "sink_batch head sink_query 1"] | None, kv_heads: int, rows: int
) -> Float[Tensor, "sink_batch kv_head row 1"] | None:
    """The sinks for rows that concatenate the query heads of each key head, with `rows` query positions per head."""
    if sinks is None:
        return None
    return sinks.expand(-1, -1, rows, -1).reshape(len(sinks), kv_heads, -1, 1)


def attention_weights(
    query: Float[Tensor, "batch kv_head row dim"],
    key: Float[Tensor, "batch kv_head key dim"],
    mask: Float[Tensor, "mask_batch mask_head row key"],
    scaling: float,
    softcap: float | None = None,
    sinks: Float[Tensor, "sink_batch kv_head row 1"] | None = None,
) -> Float[Tensor, "batch kv_head row key"]:
    """softmax(query · key × scaling + mask) in float32 or more, as in transformers' eager attention.

    Rows are query positions of one head or (see `fold_mask`) of a group of heads.
    """
    precision = torch.promote_types(query.dtype, torch.float32)
    products = torch.matmul(query.to(precision), key.to(precision).transpose(-1, -2))
    return softmax_of(products, mask, scaling, softcap, sinks)


def softmax_of(
    products: Float[Tensor, "batch kv_head row key"],
    mask: Float[Tensor, "mask_batch mask_head row key"],
    scaling: float,
    softcap: float | None = None,
    sinks: Float[Tensor, "sink_batch kv_head row 1"] | None = None,
) -> Float[Tensor, "batch kv_head row key"]:
    """softmax(products × scaling + mask) without the column of the sinks; overwrites `products` (queries · keys)."""
    scores = products.mul_(scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores += mask
    if sinks is None:
        return torch.softmax(scores, dim=-1)
    column = sinks.to(scores.dtype).expand(*scores.shape[:-1], 1)
    return torch.softmax(torch.cat([scores, column], dim=-1), dim=-1)[..., :-1]
