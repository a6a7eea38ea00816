"""The backward pass of a layer's attention: the flow |Σ_h A ⊙ ∂L/∂A| and the gradients of queries, keys and values.

Keeping the attention maps of all layers for the backward pass would take layers × heads × N² numbers. Instead, the maps are
recomputed a few rows at a time, and nothing of size N² is ever held.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from anchorflow.attention.core import Attention, attention_weights, fold_mask, fold_sinks

MAP_BYTES = 64 * 2**20
"""Bytes of a layer's attention maps that the backward pass holds at a time, in each of its two or three buffers."""

MIN_ROWS = 128
"""The fewest rows at a time: fewer cost more in calls than they save in keys."""

Rows = Callable[[int, Float[Tensor, "batch row key"], Float[Tensor, "batch head row key"]], None]
"""Receives a block of rows of a layer's I: the first row's index, the rows of all prompts up to the last visible key, and
the signed A ⊙ ∂L/∂A of each head that they are made of."""


class Gradients(NamedTuple):
    """The gradients of the loss L, in the dtype of a layer's inputs."""

    query: Float[Tensor, "batch head query dim"]
    key: Float[Tensor, "batch kv_head key dim"]
    value: Float[Tensor, "batch kv_head key dim"]


def plain_weights(attention: Attention) -> Float[Tensor, "batch head query key"]:
    """The complete attention maps of a layer, computed by definition and fully differentiable."""
    precision = torch.promote_types(attention.query.dtype, torch.float32)
    query, key = attention.query.to(precision), attention.key.to(precision)
    scores = query @ key.repeat_interleave(attention.group, dim=1).mT * attention.scaling
    if attention.softcap is not None:
        scores = attention.softcap * torch.tanh(scores / attention.softcap)
    scores = scores + attention.mask
    if attention.sinks is not None:
        scores = torch.cat([scores, attention.sinks.to(precision).expand(*scores.shape[:-1], 1)], dim=-1)
    return torch.softmax(scores, dim=-1)[..., : key.shape[2]]


def plain_flow_and_gradients(
    attention: Attention, grad_output: Float[Tensor, "batch head query dim"]
) -> tuple[Float[Tensor, "batch query key"], Gradients]:
    """The reference for `flow_and_gradients`: I and the gradients from complete maps and autograd. Tests compare the two."""
    query, key, value = (t.detach().requires_grad_() for t in (attention.query, attention.key, attention.value))
    with torch.enable_grad():
        weights = plain_weights(replace(attention, query=query, key=key, value=value))
        output = weights @ value.repeat_interleave(attention.group, dim=1)
        of_weights, *gradients = torch.autograd.grad(output, (weights, query, key, value), grad_output)
    return (weights * of_weights).sum(dim=1).abs().detach(), Gradients(*gradients)


def flow_and_gradients(
    attention: Attention,
    grad_output: Float[Tensor, "batch head query dim"],
    flow: Rows,
    gradients: bool = True,
    per_head: bool = False,
) -> Gradients | None:
    """The gradients of a layer's inputs, given that of its output (None without `gradients`), and its flow.

    The queries are the last of the keys' positions, and no row sees a later position. `flow` receives the rows of
    I = |Σ_h A ⊙ ∂L/∂A|, or of Σ_h |A ⊙ ∂L/∂A| with `per_head`, in blocks from the last to the first, in float32 or more,
    with the A ⊙ ∂L/∂A of each head. It may overwrite the former, not the latter.
    """
    query, key, value = attention.query, attention.key, attention.value
    batch, kv_heads, length = key.shape[:3]
    group, n_rows = attention.group, query.shape[2]
    precision = torch.promote_types(query.dtype, torch.float32)
    q, dout = (t.to(precision).reshape(batch, kv_heads, group, n_rows, -1) for t in (query, grad_output))
    k, v = (t.to(precision).contiguous() for t in (key, value))

    of_query: list[Tensor] = []
    of_key = of_value = torch.empty(0)
    # A block of rows needs the keys up to its own end. The last block comes first: it needs all keys.
    for start, stop in reversed(row_blocks(n_rows, batch * query.shape[1] * q.element_size())):
        end = length - n_rows + stop
        rows, drows = (t[:, :, :, start:stop].reshape(batch, kv_heads, -1, t.shape[-1]) for t in (q, dout))
        keys, values = k[:, :, :end], v[:, :, :end]
        mask = fold_mask(attention.mask[:, :, start:stop, :end], kv_heads, group)
        sinks = attention.sinks
        if sinks is not None:
            sinks = fold_sinks(sinks if sinks.shape[2] == 1 else sinks[:, :, start:stop], kv_heads, stop - start)
        weights = attention_weights(rows, keys, mask, attention.scaling, attention.softcap, sinks)
        product = torch.matmul(drows, values.transpose(-1, -2))  # ∂L/∂A
        product *= weights  # A ⊙ ∂L/∂A, signed
        of_heads = product.view(batch, -1, stop - start, end)
        rows_of_flow = torch.linalg.vector_norm(of_heads, 1, dim=1) if per_head else of_heads.sum(dim=1).abs_()
        flow(start, rows_of_flow, of_heads)
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
    if not gradients:
        return None
    whole = of_query[0] if len(of_query) == 1 else torch.cat(of_query, dim=3)
    return Gradients(*(t.to(query.dtype) for t in (whole.view(query.shape), of_key, of_value)))


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set torch's float32 matmul precision within the block."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def row_blocks(length: int, row_bytes: int) -> list[tuple[int, int]]:
    """Blocks of rows of a map with `row_bytes` bytes per key: small enough for the budget, several if that saves work."""
    size = max(1, min(MAP_BYTES // (row_bytes * length), max(MIN_ROWS, length // 8)))
    count = -(-length // size)  # of equal size: a small last block would take as many calls
    return list(pairwise(length * i // count for i in range(count + 1)))
