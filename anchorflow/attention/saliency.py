"""Information flow: |Σ_h A ⊙ ∂L/∂A| of every layer, averaged at once (Label Words are Anchors, sec. 2.1).

Keeping the attention maps of all layers for the backward pass would take layers × heads × N² numbers.
Here a layer keeps its queries, keys and values; its backward pass computes the maps again, a few rows
at a time, and leaves three numbers per prompt: the means S_wp, S_pq and S_ww.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from anchorflow.attention.backend import Attend
from anchorflow.attention.core import Attention, attention_weights, fold_mask
from anchorflow.attention.target import of_target

MAP_BYTES = 64 * 2**20
"""How much of a layer's attention maps the backward pass holds at a time, in each of its two or three buffers."""

MIN_ROWS = 128
"""Fewer rows at a time cost more in calls than they save in keys."""

STRONGEST = 200
"""So many single flows of a layer are kept for a prompt that is kept at all."""


class SaliencyFlow:
    """A tap that turns the gradient of a loss into the flow between the parts of the prompt.

    Args:
        n_layers: layers of the model.
        anchors: positions p_k of the label words; every prompt has at least one.
        is_anchor: False where `anchors` is filler, for prompts with fewer demonstrations than others.
        targets: the last position q of each prompt, where the loss is taken, and nowhere else; padding may follow.
        keep: rows of the batch whose strongest flows are kept.

    Use it as `with tapped(model, flow): loss = ...` and then `flow.gather(loss)`. After that `strongest` holds for each
    row of `keep`, layer by layer, its flows (to, from, I), strongest first and none of them zero, and `totals` the sum of
    all I in each layer.
    """

    def __init__(
        self,
        n_layers: int,
        anchors: Int[Tensor, "batch anchor"],
        is_anchor: Bool[Tensor, "batch anchor"],
        targets: Int[Tensor, " batch"],
        keep: Sequence[int] = (),
    ) -> None:
        self.strongest: dict[int, list[list[tuple[int, int, float]]]] = {row: [[]] * n_layers for row in keep}
        self.totals: dict[int, list[float]] = {row: [0.0] * n_layers for row in keep}
        # Nothing else in the graph needs a gradient: these zeros are what a layer's backward pass hangs on,
        # and the flow arrives as their "gradient".
        self._precision = (
            torch.float32 if targets.device.type == "mps" else torch.float64
        )  # Apple's GPUs have no float64
        self._means = torch.zeros(
            n_layers, len(targets), 3, dtype=self._precision, device=targets.device, requires_grad=True
        )
        self._anchors = anchors
        self._is_anchor = is_anchor
        self._targets = targets
        n = (targets + 1).to(self._precision)
        k = is_anchor.sum(dim=1)
        n_wp = (anchors * is_anchor).sum(dim=1).to(self._precision)
        # Pairs j < i of each kind; a pair q-p_k is never also one of p_k-j, since q comes last.
        self._pairs = torch.stack([n_wp, k.to(self._precision), n * (n - 1) / 2 - n_wp - k], dim=1)
        if not bool((self._pairs > 0).all()):
            raise ValueError("a prompt needs a word before and a word beside its label words")

    def __call__(self, attention: Attention, attend: Attend) -> Tensor:
        length = attention.query.shape[2]
        # Of what the last layer gives, the loss sees the target's row alone.
        if attention.layer == len(self._means) - 1:
            attention = of_target(attention, self._targets)
        output: Tensor = _Flow.apply(  # type: ignore[no-untyped-call]
            attention.query, attention.key, attention.value, self._means, self, attention, attend
        )
        return output.expand(-1, -1, length, -1)

    def gather(self, loss: Float[Tensor, ""]) -> Float[Tensor, "layer batch 3"]:
        """S_wp, S_pq and S_ww of every layer and prompt, from the sum of the prompts' losses."""
        return torch.autograd.grad(loss, self._means)[0]

    def keep(self, layer: int, flow: Float[Tensor, "batch position position"]) -> None:
        """Note the strongest flows of one layer's I, of the rows that are kept."""
        for row in self.strongest:
            pairs = flow[row].tril(-1)
            values, places = pairs.flatten().topk(min(STRONGEST, pairs.numel()))
            length = pairs.shape[-1]
            found = zip(places.tolist(), values.tolist(), strict=True)
            self.strongest[row][layer] = [(place // length, place % length, value) for place, value in found if value]
            self.totals[row][layer] = float(pairs.sum(dtype=self._precision))

    def reduce(self, flow: Float[Tensor, "batch position position"]) -> Float[Tensor, "batch 3"]:
        """The three means over pairs j < i of one layer's I (which is consumed). Rows of padding are zero: the loss
        does not depend on them.
        """
        device = flow.device
        anchors, is_anchor, targets = (t.to(device) for t in (self._anchors, self._is_anchor, self._targets))
        row = torch.arange(flow.shape[0], device=device)[:, None]
        flow.diagonal(dim1=1, dim2=2).zero_()
        wp = (flow[row, anchors].sum(dim=-1, dtype=self._precision) * is_anchor).sum(dim=1)
        pq = (flow[row, targets[:, None], anchors].to(self._precision) * is_anchor).sum(dim=1)
        # Taken out before the rest is summed, which would otherwise be a difference of large sums. Filler
        # repeats an anchor of its prompt, so it takes out nothing more.
        flow[row, anchors] = 0
        flow[row, targets[:, None], anchors] = 0
        ww = flow.sum(dim=(1, 2), dtype=self._precision)
        return torch.stack([wp, pq, ww], dim=1) / self._pairs.to(device)


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
        ctx.scaling, ctx.softcap = attention.scaling, attention.softcap
        return attend(attention)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors
        attention = Attention(ctx.layer, query, key, value, mask, ctx.scaling, ctx.softcap)
        inputs = any(ctx.needs_input_grad[:3])  # not so in the first layer: its inputs depend on nothing
        found = flow_and_gradients(attention, grad_output, gradients=inputs)
        means = torch.zeros_like(ctx.flow._means)
        total = found.flow
        if total.shape[1] < total.shape[2]:  # the target's row alone
            row = torch.arange(len(total), device=total.device)
            square = total.new_zeros(len(total), total.shape[2], total.shape[2])
            total = square.index_put_((row, ctx.flow._targets.to(row.device)), total[:, 0])
        ctx.flow.keep(attention.layer, total)
        means[attention.layer] = ctx.flow.reduce(total).to(means.device)
        return found.query, found.key, found.value, means, None, None, None


class FlowAndGradients(NamedTuple):
    """I = |Σ_h A ⊙ ∂L/∂A| of a layer, and the gradients of L in the dtype of its inputs (None where they are not needed)."""

    flow: Float[Tensor, "batch query key"]
    query: Float[Tensor, "batch head query dim"] | None = None
    key: Float[Tensor, "batch kv_head key dim"] | None = None
    value: Float[Tensor, "batch kv_head key dim"] | None = None


def plain_flow_and_gradients(
    attention: Attention, grad_output: Float[Tensor, "batch head query dim"]
) -> FlowAndGradients:
    """What `flow_and_gradients` computes, written down: whole maps, and autograd's own gradients. Tests compare the two."""
    query, key, value = (t.detach().requires_grad_() for t in (attention.query, attention.key, attention.value))
    with torch.enable_grad():
        scores = query @ key.repeat_interleave(attention.group, dim=1).mT * attention.scaling
        if attention.softcap is not None:
            scores = attention.softcap * torch.tanh(scores / attention.softcap)
        weights = torch.softmax(scores + attention.mask, dim=-1)
        output = weights @ value.repeat_interleave(attention.group, dim=1)
        of_weights, *gradients = torch.autograd.grad(output, (weights, query, key, value), grad_output)
    return FlowAndGradients((weights * of_weights).sum(dim=1).abs().detach(), *gradients)


def flow_and_gradients(
    attention: Attention, grad_output: Float[Tensor, "batch head query dim"], gradients: bool = True
) -> FlowAndGradients:
    """The flow of a layer and the gradients of its inputs, from that of its output; the maps are computed again, a few
    rows at a time.

    The queries are the last rows of the keys' positions, and no row sees a later position.
    """
    query, key, value = attention.query, attention.key, attention.value
    batch, kv_heads, length = key.shape[:3]
    group, n_rows = attention.group, query.shape[2]
    precision = torch.promote_types(query.dtype, torch.float32)
    q, dout = (t.to(precision).reshape(batch, kv_heads, group, n_rows, -1) for t in (query, grad_output))
    k, v = (t.to(precision).contiguous() for t in (key, value))

    of_query: list[Tensor] = []
    of_key = of_value = torch.empty(0)
    total = torch.zeros(batch, n_rows, length, dtype=precision, device=query.device)
    # A block of rows takes the keys up to its own end. The last block comes first: it takes all of them.
    for start, stop in reversed(row_blocks(n_rows, batch * query.shape[1] * total.element_size())):
        end = length - n_rows + stop
        rows, drows = (t[:, :, :, start:stop].reshape(batch, kv_heads, -1, t.shape[-1]) for t in (q, dout))
        keys, values = k[:, :, :end], v[:, :, :end]
        mask = fold_mask(attention.mask[:, :, start:stop, :end], kv_heads, group)
        weights = attention_weights(rows, keys, mask, attention.scaling, attention.softcap)
        product = torch.matmul(drows, values.transpose(-1, -2))  # ∂L/∂A
        product *= weights  # A ⊙ ∂L/∂A, signed
        torch.sum(product.view(batch, -1, stop - start, end), dim=1, out=total[:, start:stop, :end])
        if not gradients:
            continue
        # Softmax: ∂L/∂score = A ⊙ (∂L/∂A − Σ_j A ⊙ ∂L/∂A)
        scores = product.addcmul_(weights, product.sum(dim=-1, keepdim=True), value=-1)
        if attention.softcap is not None:
            raw = torch.matmul(rows, keys.transpose(-1, -2)) * attention.scaling
            scores *= 1 - torch.tanh(raw / attention.softcap) ** 2
        scores *= attention.scaling
        of_query.insert(0, torch.matmul(scores, keys).view(batch, kv_heads, group, stop - start, -1))
        dkeys = torch.matmul(scores.transpose(-1, -2), rows)
        dvalues = torch.matmul(weights.transpose(-1, -2), drows)
        if end == length:
            of_key, of_value = dkeys, dvalues
        else:
            of_key[:, :, :end] += dkeys
            of_value[:, :, :end] += dvalues
    total.abs_()
    if not gradients:
        return FlowAndGradients(total)
    whole = of_query[0] if len(of_query) == 1 else torch.cat(of_query, dim=3)
    return FlowAndGradients(total, *(t.to(query.dtype) for t in (whole.view(query.shape), of_key, of_value)))


def row_blocks(length: int, row_bytes: int) -> list[tuple[int, int]]:
    """Blocks of the rows of a map with `row_bytes` a key: small enough for the budget, and several where that saves work."""
    size = max(1, min(MAP_BYTES // (row_bytes * length), max(MIN_ROWS, length // 8)))
    count = -(-length // size)  # of even size: a last block of a few rows would take as many calls
    return list(pairwise(length * i // count for i in range(count + 1)))
