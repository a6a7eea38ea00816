"""Query vectors of the target and key vectors of the label words, as they enter the scores (sec. 3.3)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anchorflow.attention.core import Attention
from anchorflow.attention.reach import Attend
from anchorflow.attention.target import by_layer


class Vectors:
    """A tap that reads q's query vector, with all heads concatenated, and its product with each anchor's key vector.

    Both are taken as they enter the scores: after rotary embedding, before scaling. In grouped-query models, a key counts
    once for every query head.
    """

    def __init__(self, anchors: Int[Tensor, "batch anchor"], targets: Int[Tensor, " batch"]) -> None:
        self._anchors, self._targets = anchors, targets
        self._queries: dict[int, Tensor] = {}
        self._products: dict[int, Tensor] = {}

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        device = attention.query.device
        rows = torch.arange(len(self._targets), device=device)
        targets, anchors = (t.to(device) for t in (self._targets, self._anchors))
        precision = torch.promote_types(attention.query.dtype, torch.float32)
        query = attention.query[rows, :, targets].to(precision)  # [batch, head, dim]
        key = attention.key[rows[:, None], :, anchors].to(precision)  # [batch, anchor, kv_head, dim]
        key = key.repeat_interleave(attention.group, dim=2)
        self._queries[attention.layer] = query.flatten(1)
        self._products[attention.layer] = torch.einsum("bhd,bahd->ba", query, key)
        return attend(attention)

    def read(self) -> tuple[Float[Tensor, "layer batch vector"], Float[Tensor, "layer batch anchor"]]:
        """The queries and the products of the last pass, on the CPU, in float64."""
        return by_layer(self._queries), by_layer(self._products)
