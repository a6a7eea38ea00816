"""Query vectors of the target and key vectors of the label words, as they meet in the scores (sec. 3.3)."""

import torch
from jaxtyping import Int
from torch import Tensor

from anchorflow.attention.backend import Attend
from anchorflow.attention.core import Attention


class Vectors:
    """A tap that reads q's query vector, all heads one after another, and its product with each anchor's key vector.

    Both are taken as the scores take them: after rotary positions, before scaling. Keys of grouped-query models stand
    once for every query head. After the pass `queries` is [layer][batch, head × dim], `products` [layer, batch, anchor].
    """

    def __init__(self, n_layers: int, anchors: Int[Tensor, "batch anchor"], targets: Int[Tensor, " batch"]) -> None:
        self.queries: list[Tensor] = [torch.empty(0)] * n_layers
        self.products = torch.zeros(n_layers, *anchors.shape, dtype=torch.float64)
        self._anchors, self._targets = anchors, targets

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        device = attention.query.device
        rows, targets, anchors = (
            t.to(device) for t in (torch.arange(len(self._targets)), self._targets, self._anchors)
        )
        precision = torch.promote_types(attention.query.dtype, torch.float32)
        query = attention.query[rows, :, targets].to(precision)  # [batch, head, dim]
        key = attention.key[rows[:, None], :, anchors].to(precision)  # [batch, anchor, kv_head, dim]
        key = key.repeat_interleave(attention.group, dim=2)
        self.queries[attention.layer] = query.flatten(1).float().cpu()
        self.products[attention.layer] = torch.einsum("bhd,bahd->ba", query, key).cpu().double()
        return attend(attention)
