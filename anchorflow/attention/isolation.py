"""Positions that lose their view of what came before (Label Words are Anchors, sec. 2.2)."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from anchorflow.attention.core import Attention
from anchorflow.attention.reach import Attend


class Isolate:
    """A tap: `A(p, j) = 0` for every j < p, for each of the positions p of a layer (from 0).

    Scores are masked before the softmax, so the row is left with itself alone. Positions count from the first token
    of the text, also where a pass begins in the middle of it. A layer has a row of positions for each prompt of the batch, or
    one row for all of them; position 0, which sees nothing but itself anyway, fills up a shorter row.
    """

    def __init__(self, positions: Mapping[int, Int[Tensor, "rows position"]]) -> None:
        self._positions = positions
        self._last: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        positions = self._positions.get(attention.layer)
        if positions is None:
            return attend(attention)
        mask, last = attention.mask, self._last
        if last is None or last[0] is not mask or last[1] is not positions:  # layers often share both
            self._last = last = mask, positions, isolated(mask, positions)
        return attend(replace(attention, mask=last[2]))


def isolated(
    mask: Float[Tensor, "mask_batch mask_head query key"], positions: Int[Tensor, "rows position"]
) -> Float[Tensor, "batch mask_head query key"]:
    """The mask under which these positions see themselves alone."""
    length, total = mask.shape[2:]
    places = torch.arange(total - length, total, device=mask.device)
    alone = (positions.to(mask.device)[:, :, None] == places).any(dim=1)  # [rows, query]
    before = torch.arange(total, device=mask.device) < places[:, None]  # [query, key]
    return mask.masked_fill((alone[:, :, None] & before)[:, None], torch.finfo(mask.dtype).min)
