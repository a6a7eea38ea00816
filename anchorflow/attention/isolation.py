"""Positions that lose their view of what came before (Label Words are Anchors, sec. 2.2)."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from anchorflow.attention.core import Attention
from anchorflow.attention.reach import Attend


class Isolate:
    """A tap: in the layers (from 0), `A(p, j) = 0` for every j < p, for each of the positions p.

    Scores are masked before the softmax, so the row is left with itself alone. Positions count from the first token
    of the text, also where a pass begins in the middle of it.
    """

    def __init__(self, positions: Sequence[int], layers: Collection[int]) -> None:
        self._positions = positions
        self._layers = layers
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        if attention.layer not in self._layers:
            return attend(attention)
        if self._last is None or self._last[0] is not attention.mask:  # layers share their mask, or two of them
            self._last = attention.mask, self._isolated(attention.mask)
        return attend(replace(attention, mask=self._last[1]))

    def _isolated(self, mask: Float[Tensor, "mask_batch mask_head query key"]) -> Tensor:
        found = mask.clone()
        length, total = mask.shape[2:]
        for position in self._positions:
            row = position - (total - length)
            if 0 <= row < length:
                found[:, :, row, :position] = torch.finfo(mask.dtype).min
        return found
