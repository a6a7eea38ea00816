"""One layer's attention as plain tensors, the same for every model family."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Attention:
    """What a layer is about to compute. `layer` counts from 0.

    Grouped-query models have fewer key than query heads; query head h reads key head h // group.
    `mask` is added to the scores (0 where a position may be seen).
    """

    layer: int
    query: Float[Tensor, "batch head query dim"]
    key: Float[Tensor, "batch kv_head key dim"]
    value: Float[Tensor, "batch kv_head key dim"]
    mask: Float[Tensor, "mask_batch mask_head query key"]
    scaling: float
    softcap: float | None = None

    @property
    def group(self) -> int:
        """Query heads to a key head."""
        return self.query.shape[1] // self.key.shape[1]


def fold_mask(
    mask: Float[Tensor, "mask_batch mask_head query key"], kv_heads: int, group: int
) -> Float[Tensor, "mask_batch folded_head row key"]:
    """The mask for rows that hold the `group` query heads of a key head one after another.

    In this form a grouped-query layer is a plain batched product, without repeating keys or values.
    """
    if mask.shape[1] > 1:
        return mask.reshape(mask.shape[0], kv_heads, group * mask.shape[2], -1)
    return mask.repeat(1, 1, group, 1) if group > 1 else mask


def attention_weights(
    query: Float[Tensor, "batch kv_head row dim"],
    key: Float[Tensor, "batch kv_head key dim"],
    mask: Float[Tensor, "mask_batch mask_head row key"],
    scaling: float,
    softcap: float | None = None,
) -> Float[Tensor, "batch kv_head row key"]:
    """softmax(query · key × scaling + mask), at least in float32, as transformers' eager attention computes it.

    Rows are query positions, of one head or (see `fold_mask`) of a group of heads.
    """
    precision = torch.promote_types(query.dtype, torch.float32)
    products = torch.matmul(query.to(precision), key.to(precision).transpose(-1, -2))
    return softmax_of(products, mask, scaling, softcap)


def softmax_of(
    products: Float[Tensor, "batch kv_head row key"],
    mask: Float[Tensor, "mask_batch mask_head row key"],
    scaling: float,
    softcap: float | None = None,
) -> Float[Tensor, "batch kv_head row key"]:
    """softmax(products × scaling + mask); the products of queries and keys are consumed."""
    scores = products.mul_(scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores += mask
    return torch.softmax(scores, dim=-1)
