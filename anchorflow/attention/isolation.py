"""Isolate positions from all earlier ones (Label Words are Anchors, sec. 2.2)."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anchorflow.attention.core import Attention
from anchorflow.attention.reach import Attend


class Isolate:
    """A tap that sets `A(p, j) = 0` for every j < p, for the given positions p of each layer (from 0).

    Scores are masked before the softmax, so the position sees only itself. Positions count from the first token of the
    text, also if a pass continues a KV cache. A layer has one row of positions for each prompt of the batch, or one for all;
    shorter rows are padded with position 0, which sees only itself anyway.
    """

    def __init__(self, positions: Mapping[int, Int[Tensor, "rows position"]]) -> None:
        self._positions = positions
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        positions = self._positions.get(attention.layer)
        if positions is None:
            return attend(attention)
        mask, last = attention.mask, self._last
        if (
            last is None or last[0] is not mask or last[1] is not positions
        ):  # layers often share both, so that the result is reused
            self._last = last = mask, positions, isolated(mask, positions)
        return attend(replace(attention, mask=last[2]))


def isolated(
    mask: Float[Tensor, "mask_batch mask_head query key"], positions: Int[Tensor, "rows position"]
) -> Float[Tensor, "batch mask_head query key"]:
    """The mask with which these positions see only themselves."""
    length, total = mask.shape[2:]
    places = torch.arange(total - length, total, device=mask.device)
    alone = (positions.to(mask.device)[:, :, None] == places).any(dim=1)  # [rows, query]
    before = torch.arange(total, device=mask.device) < places[:, None]  # [query, key]
    return mask.masked_fill((alone[:, :, None] & before)[:, None], torch.finfo(mask.dtype).min)
