"""Information flow: |Σ_h A ⊙ ∂L/∂A| of every layer (Label Words are Anchors, sec. 2.1), or Σ_h |A ⊙ ∂L/∂A| (footnote 3).

A layer keeps its queries, keys and values. Its backward pass recomputes the maps, a few rows at a time (see `backward`), and
reduces them to three numbers per prompt: the means S_wp, S_pq and S_ww.
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
"""The number of single flows that are kept per layer of a kept prompt."""


class SaliencyFlow:
    """A tap that turns the gradient of a loss into the flow between the parts of the prompt.

    Args:
        shape: the model's shape; there is one flow per attention layer.
        anchors: positions p_k of the label words; every prompt has at least one.
        is_anchor: False where `anchors` is padding, for prompts with fewer demonstrations than others.
        targets: the last position q of each prompt, the only one in the loss; padding may follow it.
        keep: rows of the batch whose strongest flows are kept.
        per_head: take the absolute value of A ⊙ ∂L/∂A per head, before heads are summed.
        cut: after the last layer's attention, compute only the target's row (see `PROPERTIES`).
        tf32: allow float32 products of the backward pass to round their inputs to 10 bits, on GPUs that have it.

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
        # Nothing else in the graph needs a gradient: these zeros trigger each layer's backward pass, and the
        # flow arrives as their "gradient".
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
        # The loss depends only on the target's row of the last layer's output.
        if attention.layer == self._last:
            attention = of_target(attention, self._targets)
        output: Tensor = _Flow.apply(  # type: ignore[no-untyped-call]
            attention.query, attention.key, attention.value, self._means, self, attention, attend
        )
        return output.expand(-1, -1, length, -1)

    def gather(self, loss: Float[Tensor, ""]) -> Float[Tensor, "layer batch 3"]:
        """S_wp, S_pq and S_ww of every layer and prompt, from the sum of the losses; nan if there is no pair of a kind."""
        return torch.autograd.grad(loss, self._means)[0]

    def strongest(self, row: int) -> list["StrongestFlows"]:
        """The strongest flows of a row of `keep`, one item per layer."""
        return [self._kept[layer, row].read() for layer in self._place]

    def of_layer(self, layer: int, length: int, device: torch.device) -> "_LayerFlow":
        """The object that receives the rows of one layer's I."""
        anchors, counts, targets = (t.to(device) for t in (self._anchors, self._is_anchor, self._targets))
        is_anchor = torch.zeros(len(targets), length, dtype=torch.int32, device=device)
        is_anchor = is_anchor.scatter_add_(1, anchors, counts.int()) > 0
        kept = {row: _Strongest(length) for row in self._keep}
        self._kept |= {(layer, row): strongest for row, strongest in kept.items()}
        return _LayerFlow(is_anchor, targets, self._precision, kept)

    def mean(self, flow: "_LayerFlow") -> Float[Tensor, "batch 3"]:
        """S_wp, S_pq and S_ww of one layer, after all its rows were added."""
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
        """Add the rows of I at `positions`, up to some key, with each head's A ⊙ ∂L/∂A; overwrites `flow`."""
        columns = self._columns[: flow.shape[2]]
        is_anchor = self._is_anchor[:, : flow.shape[2]]
        flow.scatter_(2, positions[:, :, None], 0)  # the flow from a position to itself
        for row, strongest in self._kept.items():
            earlier = columns < positions[row][:, None]
            strongest.add(positions[row], flow[row] * earlier, of_heads[row], self._precision)
        sums = flow.sum(dim=2, dtype=self._precision)
        to_anchor = self._is_anchor.gather(1, positions)
        to_target = positions == self._targets[:, None]
        here = to_target.any(dim=1)
        place = (self._targets - positions[:, 0]).clamp(0, flow.shape[1] - 1)
        of_target = flow[torch.arange(len(place), device=place.device), place]
        # The target's row is summed by source: a difference of large sums would lose digits.
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
    """The strongest flows of one prompt in one layer, and the sum of all; they stay on the device until read."""

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
        """Add rows of I, which are zero except for pairs j < i, with each head's A ⊙ ∂L/∂A."""
        values, at = flow.flatten().topk(min(STRONGEST, flow.numel()))
        self._values.append(values)
        self._places.append(positions[at // flow.shape[1]] * self._length + at % flow.shape[1])
        self._heads.append(of_heads.flatten(1)[:, at].mT)
        self._totals.append(flow.sum(dtype=precision))

    def read(self) -> StrongestFlows:
        """The strongest flows of all rows."""
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
        ctx.save_for_backward(query, key, value, attention.mask)  # the model's own mask, not a folded copy per layer
        ctx.flow, ctx.layer = flow, attention.layer
        ctx.scaling, ctx.softcap, ctx.sinks = attention.scaling, attention.softcap, attention.sinks
        return attend(attention)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors
        attention = Attention(ctx.layer, query, key, value, mask, ctx.scaling, ctx.softcap, ctx.sinks)
        inputs = any(ctx.needs_input_grad[:3])  # False in the first layer, whose inputs need no gradient
        rows, length = query.shape[2], key.shape[2]
        flow = ctx.flow.of_layer(ctx.layer, length, query.device)
        if rows < length:  # only the target's row
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
