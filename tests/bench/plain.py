"""The plain side: full prompts one at a time, whole attention maps, logits of every position over the whole vocabulary.

A fair transcription of the papers' protocols with transformers' eager attention: parameters are frozen, no gradient is
kept where none is needed, nothing is computed twice, nothing is slowed down. Records look like those of the experiments.
"""

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.masking_utils import eager_mask

from anchorflow.prompts import Prompt

Change = Callable[[int, Tensor], Tensor]
"""Reads or changes the scores or the weights [1, head, query, key] of a layer (from 0)."""


def _leave(layer: int, tensor: Tensor) -> Tensor:
    return tensor


_changes: dict[str, Change] = {}


def _attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):  # type: ignore[no-untyped-def]
    """Eager attention, with what a protocol does before and after the softmax."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(-1, -2) * scaling + attention_mask
    weights = torch.softmax(_changes["scores"](module.layer_idx, scores), dim=-1)
    weights = _changes["weights"](module.layer_idx, weights)
    return (weights @ value).transpose(1, 2), None


AttentionInterface.register("plain", _attention)
AttentionMaskInterface.register("plain", eager_mask)


@contextmanager
def attention(model: PreTrainedModel, scores: Change = _leave, weights: Change = _leave) -> Iterator[None]:
    """Within the block the model's attention is eager, with these changes."""
    before = model.config._attn_implementation
    model.config._attn_implementation = "plain"
    _changes.update(scores=scores, weights=weights)
    methods = [module for module in model.modules() if hasattr(module, "_attn")]  # GPT-J has no other way in
    for module in methods:
        module.__dict__["_attn"] = partial(_method, module)
    try:
        yield
    finally:
        model.config._attn_implementation = before
        for module in methods:
            del module.__dict__["_attn"]


def _method(module, query, key, value, attention_mask):  # type: ignore[no-untyped-def]
    scaling = float(module.scale_attn) ** -1
    return _attention(module, query, key, value, attention_mask, scaling)[0].transpose(1, 2), None


def logits(model: PreTrainedModel, prompt: Prompt) -> Tensor:
    """Of the target position; the model has computed those of all positions, as it does when it is simply called."""
    return model(input_ids=torch.tensor([prompt.ids], device=model.device), use_cache=False).logits[0, -1]


def score(found: Tensor, prompt: Prompt) -> dict[str, Any]:
    """The label words' probabilities and the most probable next words."""
    return {
        "probs": torch.softmax(found[list(prompt.label_tokens)], dim=0).tolist(),
        "top5": found.topk(5).indices.tolist(),
    }


def record(prompt: Prompt, **variants: dict[str, Any]) -> dict[str, Any]:
    """As the experiments write it."""
    return {"query": prompt.query, "label": prompt.label, "variants": variants}


@torch.no_grad()
def classification(model: PreTrainedModel, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """One pass a query."""
    with attention(model):
        return [record(p, full=score(logits(model, p), p)) for p in prompts]


@torch.no_grad()
def isolation(
    model: PreTrainedModel, prompts: Sequence[Prompt], variants: Mapping[str, tuple[Collection[int], Sequence[int]]]
) -> list[dict[str, Any]]:
    """The untouched pass, and one for each variant, whose rows (second) see themselves alone in its layers (first)."""

    def alone(layers: Collection[int], rows: Sequence[int]) -> Change:
        def change(layer: int, scores: Tensor) -> Tensor:
            if layer in layers:
                for row in rows:
                    scores[:, :, row, :row] = -torch.inf
            return scores

        return change

    found = []
    for prompt in prompts:
        with attention(model):
            scored = {"full": score(logits(model, prompt), prompt)}
        for name, (layers, rows) in variants.items():
            with attention(model, scores=alone(layers, rows)):
                scored[name] = score(logits(model, prompt), prompt)
        found.append(record(prompt, **scored))
    return found


@torch.no_grad()
def attention_prediction(model: PreTrainedModel, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """One pass a query that keeps the target's row of every attention map, heads summed."""
    rows: list[Tensor] = []

    def keep(layer: int, weights: Tensor) -> Tensor:
        rows.append(weights[0, :, -1].sum(dim=0))
        return weights

    found = []
    for prompt in prompts:
        rows.clear()
        with attention(model, weights=keep):
            scored = score(logits(model, prompt), prompt)
        by_class = rows[0].new_zeros(len(rows), len(prompt.label_tokens))
        for demonstration in prompt.demonstrations:
            by_class[:, demonstration.label] += torch.stack([row[demonstration.anchor] for row in rows])
        found.append({**record(prompt, full=scored), "label_attention": by_class.tolist()})
    return found


def _reweighted(beta: Tensor, anchors: Sequence[int]) -> Change:
    def change(layer: int, weights: Tensor) -> Tensor:
        weights = weights.clone()  # softmax needs its own for the way back
        weights[0, :, -1, anchors] = weights[0, :, -1, anchors] * beta[layer].exp().to(weights.dtype)
        return weights

    return change


def learn(
    model: PreTrainedModel, training: Sequence[Prompt], lr: float, epochs: int, seed: int
) -> tuple[Tensor, list[list[float]]]:
    """β [layer, head, demonstration] by Adam, and the loss at every example before its step [epoch][example]."""
    config = model.config.get_text_config()
    shape = (config.num_hidden_layers, config.num_attention_heads, len(training[0].anchors))
    # At least float32: in bfloat16 Adam's steps would be rounded away.
    precision = torch.promote_types(model.dtype, torch.float32)
    beta = torch.zeros(shape, dtype=precision, device=model.device, requires_grad=True)
    adam = torch.optim.Adam([beta], lr=lr, betas=(0.9, 0.999))
    order = list(range(len(training)))
    shuffle = random.Random(f"{seed}/epochs").shuffle
    losses = []
    for _ in range(epochs):
        shuffle(order)
        epoch = [0.0] * len(order)
        for i in order:
            prompt = training[i]
            with attention(model, weights=_reweighted(beta, prompt.anchors)):
                loss = _loss(logits(model, prompt), prompt)
            adam.zero_grad()
            loss.backward()
            adam.step()
            epoch[i] = loss.item()
        losses.append(epoch)
    return beta.detach(), losses


def _loss(found: Tensor, prompt: Prompt) -> Tensor:
    return cross_entropy(found[list(prompt.label_tokens)][None], torch.tensor([prompt.label], device=found.device))


@torch.no_grad()
def reweighting(model: PreTrainedModel, prompts: Sequence[Prompt], beta: Tensor) -> list[dict[str, Any]]:
    """Two passes a query, without and with β."""
    found = []
    for prompt in prompts:
        with attention(model):
            vanilla = score(logits(model, prompt), prompt)
        with attention(model, weights=_reweighted(beta, prompt.anchors)):
            found.append(record(prompt, vanilla=vanilla, reweighted=score(logits(model, prompt), prompt)))
    return found


@dataclass(frozen=True)
class Kept:
    """Keys and values, layer by layer, of some positions of the demonstrations; the query begins at `next_position`."""

    layers: Sequence[tuple[Tensor, Tensor]]
    next_position: int


@torch.no_grad()
def keep(model: PreTrainedModel, prompt: Prompt, chosen: Mapping[str, Sequence[int]]) -> dict[str, Kept]:
    """The demonstrations are read once; of every variant these positions are kept."""
    with attention(model):
        cache = model(input_ids=torch.tensor([prompt.context], device=model.device), use_cache=True).past_key_values
    return {
        name: Kept(
            [(layer.keys[:, :, list(positions)], layer.values[:, :, list(positions)]) for layer in cache.layers],
            positions[-1] + 1,
        )
        for name, positions in chosen.items()
    }


@torch.no_grad()
def compression(
    model: PreTrainedModel, prompts: Sequence[Prompt], text_anchors: Mapping[int, Prompt], kept: Mapping[str, Kept]
) -> list[dict[str, Any]]:
    """A pass of the full prompt, one of the prompt without texts, and one of the query on each of what is kept."""
    found = []
    for prompt in prompts:
        bare = text_anchors[prompt.query]
        query = torch.tensor([prompt.ids[len(prompt.context) :]], device=model.device)
        with attention(model):
            scored = {"full": score(logits(model, prompt), prompt), "text_anchor": score(logits(model, bare), bare)}
            for name, context in kept.items():
                output = model(
                    input_ids=query,
                    position_ids=torch.arange(query.shape[1], device=query.device)[None] + context.next_position,
                    past_key_values=DynamicCache(context.layers),
                    use_cache=True,
                )
                scored[name] = score(output.logits[0, -1], prompt)
        found.append(record(prompt, **scored))
    return found


def saliency(model: PreTrainedModel, prompts: Sequence[Prompt]) -> list[Tensor]:
    """[layer, 3] of each prompt: S_wp, S_pq, S_ww. Ones that want a gradient stand for A: ∂L/∂ones = A ⊙ ∂L/∂A."""
    gates: list[Tensor] = []

    def gated(layer: int, weights: Tensor) -> Tensor:
        gates.append(torch.ones_like(weights, requires_grad=True))
        return weights * gates[-1]

    found = []
    for prompt in prompts:
        gates.clear()
        with attention(model, weights=gated):
            loss = _loss(logits(model, prompt), prompt)
        gradients = torch.autograd.grad(loss, gates)
        n = len(prompt.ids)
        anchors = list(prompt.anchors)
        pairs = torch.ones(n, n, dtype=torch.bool, device=model.device).tril(-1)
        wp, pq = torch.zeros_like(pairs), torch.zeros_like(pairs)
        wp[anchors] = pairs[anchors]
        pq[-1, anchors] = True
        ww = pairs & ~wp & ~pq
        rows = []
        for gradient in gradients:
            flow = gradient[0].sum(dim=0).abs()
            rows.append(torch.stack([flow[mask].mean() for mask in (wp, pq, ww)]))
        found.append(torch.stack(rows))
    return found
