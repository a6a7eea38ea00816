"""Information flow: |Σ_h A ⊙ ∂L/∂A| of every layer, averaged at once (Label Words are Anchors, sec. 2.1).

Keeping the attention maps of all layers for the backward pass would take layers × heads × N² numbers.
Here a layer keeps its queries, keys and values; its backward pass computes the maps again, a few heads
at a time, and leaves three numbers per prompt: the means S_wp, S_pq and S_ww.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from anchorflow.attention.backend import Attend
from anchorflow.attention.core import Attention, attention_weights, fold_mask

MAP_BYTES = 64 * 2**20
"""How much of a layer's attention maps the backward pass holds at a time, in each of its two or three buffers."""


class SaliencyFlow:
    """A tap that turns the gradient of a loss into the flow between the parts of the prompt.

    Args:
        n_layers: layers of the model.
        anchors: positions p_k of the label words; every prompt has at least one.
        is_anchor: False where `anchors` is filler, for prompts with fewer demonstrations than others.
        targets: the last position q of each prompt; padding may follow.

    Use it as `with tapped(model, flow): loss = ...` and then `flow.gather(loss)`.
    """

    def __init__(
        self,
        n_layers: int,
        anchors: Int[Tensor, "batch anchor"],
        is_anchor: Bool[Tensor, "batch anchor"],
        targets: Int[Tensor, " batch"],
    ) -> None:
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
        output: Tensor = _Flow.apply(  # type: ignore[no-untyped-call]
            attention.query, attention.key, attention.value, self._means, self, attention, attend
        )
        return output

    def gather(self, loss: Float[Tensor, ""]) -> Float[Tensor, "layer batch 3"]:
        """S_wp, S_pq and S_ww of every layer and prompt, from the sum of the prompts' losses."""
        return torch.autograd.grad(loss, self._means)[0]

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
        rows, mask = attention.folded()[0], attention.mask  # the model's one mask, not a folded copy for every layer
        ctx.save_for_backward(rows, key, value, *([] if mask is None else [mask]))
        ctx.flow, ctx.layer = flow, attention.layer
        ctx.scaling, ctx.softcap = attention.scaling, attention.softcap
        ctx.query_shape = query.shape
        return attend(attention)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *masks = ctx.saved_tensors
        batch, kv_heads, rows, _ = query.shape
        length = ctx.query_shape[2]
        grad_output = grad_output.reshape(batch, kv_heads, rows, -1)
        mask = fold_mask(masks[0], kv_heads, rows // length) if masks else None
        precision = torch.promote_types(query.dtype, torch.float32)

        inputs = any(ctx.needs_input_grad[:3])  # not so in the first layer: its inputs depend on nothing
        gradients: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        total = torch.zeros(batch, length, length, dtype=precision, device=query.device)
        step = max(1, MAP_BYTES // (batch * rows * length * total.element_size()))
        for first in range(0, kv_heads, step):
            q, k, v, dout = (
                t[:, first : first + step].to(precision).contiguous() for t in (query, key, value, grad_output)
            )
            part = mask if mask is None or mask.shape[1] == 1 else mask[:, first : first + step]
            weights = attention_weights(q, k, part, ctx.scaling, ctx.softcap)
            product = torch.matmul(dout, v.transpose(-1, -2))  # ∂L/∂A
            product *= weights  # A ⊙ ∂L/∂A, signed
            total += product.view(batch, -1, length, length).sum(dim=1)
            if not inputs:
                continue
            # Softmax: ∂L/∂score = A ⊙ (∂L/∂A − Σ_j A ⊙ ∂L/∂A)
            scores = product.addcmul_(weights, product.sum(dim=-1, keepdim=True), value=-1)
            if ctx.softcap is not None:
                raw = torch.matmul(q, k.transpose(-1, -2)) * ctx.scaling
                scores *= 1 - torch.tanh(raw / ctx.softcap) ** 2
            scores *= ctx.scaling
            of_query, of_key, of_value = gradients
            of_query.append(torch.matmul(scores, k))
            of_key.append(torch.matmul(scores.transpose(-1, -2), q))
            of_value.append(torch.matmul(weights.transpose(-1, -2), dout))

        means = torch.zeros_like(ctx.flow._means)
        means[ctx.layer] = ctx.flow.reduce(total.abs_()).to(means.device)
        of_inputs: list[Tensor | None] = [torch.cat(g, dim=1).to(query.dtype) if g else None for g in gradients]
        if of_inputs[0] is not None:
            of_inputs[0] = of_inputs[0].view(ctx.query_shape)
        return (*of_inputs, means, None, None, None)
