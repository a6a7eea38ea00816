"""One layer's attention as plain tensors, the same for every model family."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Attention:
    """What a layer is about to compute. `layer` counts from 0.

    Grouped-query models have fewer key than query heads; query head h reads key head h // group.
    `mask` is added to the scores (0 where a position may be seen) and may be None.
    """

    layer: int
    query: Float[Tensor, "batch head query dim"]
    key: Float[Tensor, "batch kv_head key dim"]
    value: Float[Tensor, "batch kv_head key dim"]
    mask: Float[Tensor, "mask_batch mask_head query key"] | None
    scaling: float
    softcap: float | None = None

    @property
    def group(self) -> int:
        """Query heads to a key head."""
        return self.query.shape[1] // self.key.shape[1]


def attention_weights(
    query: Float[Tensor, "batch kv_head group query dim"],
    key: Float[Tensor, "batch kv_head key dim"],
    mask: Float[Tensor, "mask_batch mask_head mask_group query key"] | None,
    scaling: float,
    softcap: float | None = None,
) -> Float[Tensor, "batch kv_head group query key"]:
    """softmax(query · key × scaling + mask), at least in float32, as transformers' eager attention computes it."""
    precision = torch.promote_types(query.dtype, torch.float32)
    scores = torch.matmul(query.to(precision), key.to(precision).unsqueeze(2).transpose(-1, -2)).mul_(scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores += mask
    return torch.softmax(scores, dim=-1)
