"""Information flow: |Σ_h A ⊙ ∂L/∂A| of every layer, averaged at once (Label Words are Anchors, sec. 2.1), or
Σ_h |A ⊙ ∂L/∂A| (its footnote 3).

A layer keeps its queries, keys and values; its backward pass computes the maps again, a few rows at a time (see
`backward`), and leaves three numbers per prompt: the means S_wp, S_pq and S_ww.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from anchorflow.attention.backward import flow_and_gradients, matmul_precision
from anchorflow.attention.core import Attention
from anchorflow.attention.reach import Attend
from anchorflow.attention.target import of_target
from anchorflow.models import Shape

STRONGEST = 200
"""So many single flows of a layer are kept for a prompt that is kept at all."""


class SaliencyFlow:
    """A tap that turns the gradient of a loss into the flow between the parts of the prompt.

    Args:
        shape: of the model; flows are of its attention layers.
        anchors: positions p_k of the label words; every prompt has at least one.
        is_anchor: False where `anchors` is filler, for prompts with fewer demonstrations than others.
        targets: the last position q of each prompt, where the loss is taken, and nowhere else; padding may follow.
        keep: rows of the batch whose strongest flows are kept.
        per_head: the absolute value is taken of every head's A ⊙ ∂L/∂A, before heads are summed.
        cut: behind the last layer's attention the target's row suffices (see `PROPERTIES`).
        tf32: products of float32 numbers in the backward pass may round these to 10 bits, where a GPU does so.

    Use it as `with tapped(model, flow): loss = ...`, then `flow.gather(loss)`, and then `flow.strongest(row)`.
    """

    def __init__(
        self,
        shape: Shape,
        anchors: Int[Tensor, "batch anchor"],
        is_anchor: Bool[Tensor, "batch anchor"],
        targets: Int[Tensor, " batch"],
        keep: Sequence[int] = (),
        tf32: bool = False,
        per_head: bool = False,
        cut: bool = True,
    ) -> None:
        self.tf32, self.per_head = tf32, per_head
        # Apple's GPUs have no float64.
        self._precision = torch.float32 if targets.device.type == "mps" else torch.float64
        # Nothing else in the graph needs a gradient: these zeros are what a layer's backward pass hangs on,
        # and the flow arrives as their "gradient".
        self._means = torch.zeros(
            len(shape.attending), len(targets), 3, dtype=self._precision, device=targets.device, requires_grad=True
        )
        self._place = {layer: i for i, layer in enumerate(shape.attending)}
        self._last = shape.layers - 1 if cut else None
        self._anchors, self._is_anchor = anchors, is_anchor
        self._targets = targets
        n = (targets + 1).to(self._precision)
        k = is_anchor.sum(dim=1)
        n_wp = (anchors * is_anchor).sum(dim=1).to(self._precision)
        # Pairs j < i of each kind; a pair q-p_k is never also one of p_k-j, since q comes last.
        self._pairs = torch.stack([n_wp, k.to(self._precision), n * (n - 1) / 2 - n_wp - k], dim=1)
        self._keep = tuple(keep)
        self._kept: dict[tuple[int, int], _Strongest] = {}

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        length = attention.query.shape[2]
        # Of what the last layer gives, the loss sees the target's row alone.
        if attention.layer == self._last:
            attention = of_target(attention, self._targets)
        output: Tensor = _Flow.apply(  # type: ignore[no-untyped-call]
            attention.query, attention.key, attention.value, self._means, self, attention, attend
        )
        return output.expand(-1, -1, length, -1)

    def gather(self, loss: Float[Tensor, ""]) -> Float[Tensor, "layer batch 3"]:
        """S_wp, S_pq and S_ww of every layer and prompt, from the sum of the losses; nan where no pair is of a kind."""
        return torch.autograd.grad(loss, self._means)[0]

    def strongest(self, row: int) -> list["StrongestFlows"]:
        """Of a row of `keep`, layer by layer: its strongest flows."""
        return [self._kept[layer, row].read() for layer in self._place]

    def of_layer(self, layer: int, length: int, device: torch.device) -> "_LayerFlow":
        """What takes the rows of one layer's I."""
        anchors, counts, targets = (t.to(device) for t in (self._anchors, self._is_anchor, self._targets))
        is_anchor = torch.zeros(len(targets), length, dtype=torch.int32, device=device)
        is_anchor = is_anchor.scatter_add_(1, anchors, counts.int()) > 0
        kept = {row: _Strongest(length) for row in self._keep}
        self._kept |= {(layer, row): strongest for row, strongest in kept.items()}
        return _LayerFlow(is_anchor, targets, self._precision, kept)

    def mean(self, flow: "_LayerFlow") -> Float[Tensor, "batch 3"]:
        """S_wp, S_pq and S_ww of one layer, once it has all rows."""
        return flow.sums.to(self._means.device) / self._pairs


class _LayerFlow:
    """Sums the rows of one layer's I over pairs j < i: words to label words, label words to the target, the others.

    Rows of padding are zero: the loss does not depend on them.
    """

    def __init__(
        self,
        is_anchor: Bool[Tensor, "batch position"],
        targets: Int[Tensor, " batch"],
        precision: torch.dtype,
        kept: Mapping[int, "_Strongest"],
    ) -> None:
        self._is_anchor, self._targets, self._precision, self._kept = is_anchor, targets, precision, kept
        self._columns = torch.arange(is_anchor.shape[1], device=targets.device)
        self.sums = torch.zeros(len(targets), 3, dtype=precision, device=targets.device)

    def add(
        self,
        positions: Int[Tensor, "batch row"],
        flow: Float[Tensor, "batch row key"],
        of_heads: Float[Tensor, "batch head row key"],
    ) -> None:
        """These rows of I, which are consumed: those of `positions`, up to some key; and each head's A ⊙ ∂L/∂A."""
        columns = self._columns[: flow.shape[2]]
        is_anchor = self._is_anchor[:, : flow.shape[2]]
        flow.scatter_(2, positions[:, :, None], 0)  # what flows from a position to itself
        for row, strongest in self._kept.items():
            earlier = columns < positions[row][:, None]
            strongest.add(positions[row], flow[row] * earlier, of_heads[row], self._precision)
        sums = flow.sum(dim=2, dtype=self._precision)
        to_anchor = self._is_anchor.gather(1, positions)
        to_target = positions == self._targets[:, None]
        here = to_target.any(dim=1)
        place = (self._targets - positions[:, 0]).clamp(0, flow.shape[1] - 1)
        of_target = flow[torch.arange(len(place), device=place.device), place]
        # The target's row is split by where it comes from: a difference of large sums would lose digits.
        wp = (sums * to_anchor).sum(dim=1)
        pq = (of_target * is_anchor).sum(dim=1, dtype=self._precision) * here
        ww = (sums * ~(to_anchor | to_target)).sum(dim=1)
        ww += (of_target * ~is_anchor).sum(dim=1, dtype=self._precision) * here
        self.sums += torch.stack([wp, pq, ww], dim=1)


class StrongestFlows(NamedTuple):
    """The strongest flows of one prompt in one layer, strongest first and none of them zero."""

    flows: list[tuple[int, int, float]]
    """(to, from, I)"""
    heads: list[list[float]]
    """Of each flow every head's A ⊙ ∂L/∂A, with its sign."""
    total: float
    """The sum of all I of the layer, not of these alone."""


class _Strongest:
    """Collects them from the rows of a layer; they stay on the device until they are read."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._values: list[Tensor] = []
        self._places: list[Tensor] = []
        self._heads: list[Tensor] = []
        self._totals: list[Tensor] = []

    def add(
        self,
        positions: Int[Tensor, " row"],
        flow: Float[Tensor, "row key"],
        of_heads: Float[Tensor, "head row key"],
        precision: torch.dtype,
    ) -> None:
        """These rows of I, zero but for pairs j < i, and each head's A ⊙ ∂L/∂A."""
        values, at = flow.flatten().topk(min(STRONGEST, flow.numel()))
        self._values.append(values)
        self._places.append(positions[at // flow.shape[1]] * self._length + at % flow.shape[1])
        self._heads.append(of_heads.flatten(1)[:, at].mT)
        self._totals.append(flow.sum(dtype=precision))

    def read(self) -> StrongestFlows:
        """The strongest of all rows."""
        values, places = torch.cat(self._values), torch.cat(self._places)
        values, best = values.topk(min(STRONGEST, len(values)))
        best = best[: int(values.count_nonzero())]
        found = zip(places[best].tolist(), values.tolist(), strict=False)
        flows = [(place // self._length, place % self._length, value) for place, value in found]
        return StrongestFlows(flows, torch.cat(self._heads)[best].tolist(), float(torch.stack(self._totals).sum()))


class _Flow(torch.autograd.Function):
    """A layer's attention, with a backward pass that also reduces A ⊙ ∂L/∂A."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        means: Tensor,
        flow: SaliencyFlow,
        attention: Attention,
        attend: Attend,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, attention.mask)  # the model's one, not a folded copy for every layer
        ctx.flow, ctx.layer = flow, attention.layer
        ctx.scaling, ctx.softcap, ctx.sinks = attention.scaling, attention.softcap, attention.sinks
        return attend(attention)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors
        attention = Attention(ctx.layer, query, key, value, mask, ctx.scaling, ctx.softcap, ctx.sinks)
        inputs = any(ctx.needs_input_grad[:3])  # not so in the first layer: its inputs depend on nothing
        rows, length = query.shape[2], key.shape[2]
        flow = ctx.flow.of_layer(ctx.layer, length, query.device)
        if rows < length:  # the target's row alone
            positions = ctx.flow._targets.to(query.device)[:, None]
        else:
            positions = torch.arange(length, device=query.device).expand(len(query), -1)
        with matmul_precision("high") if ctx.flow.tf32 else nullcontext():
            found = flow_and_gradients(
                attention,
                grad_output,
                lambda start, block, of_heads: flow.add(positions[:, start : start + block.shape[1]], block, of_heads),
                gradients=inputs,
                per_head=ctx.flow.per_head,
            )
        means = torch.zeros_like(ctx.flow._means)
        means[ctx.flow._place[attention.layer]] = ctx.flow.mean(flow)
        return *(found or (None, None, None)), means, None, None, None
