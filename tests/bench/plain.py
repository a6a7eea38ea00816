"""The plain side: full prompts one at a time, whole attention maps, logits of every position over the whole vocabulary.

A fair transcription of the papers' protocol with transformers' eager attention: parameters are frozen,
nothing is computed twice, nothing is slowed down.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

from anchorflow.prompts import Prompt

_gates: list[Tensor] = []


def _gated(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):  # type: ignore[no-untyped-def]
    """Eager attention whose weights are multiplied by ones that want a gradient: ∂L/∂ones = A ⊙ ∂L/∂A."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    weights = torch.softmax(query @ key.transpose(-1, -2) * scaling + attention_mask, dim=-1)
    gate = torch.ones_like(weights, requires_grad=True)
    _gates.append(gate)
    return ((weights * gate) @ value).transpose(1, 2), None


AttentionInterface.register("plain_gated", _gated)
AttentionMaskInterface.register("plain_gated", eager_mask)


def saliency(model: PreTrainedModel, prompts: Sequence[Prompt]) -> list[Tensor]:
    """[layer, 3] of each prompt: S_wp, S_pq, S_ww. Set `_attn_implementation` to plain_gated before."""
    found = []
    for prompt in prompts:
        _gates.clear()
        logits = model(input_ids=torch.tensor([prompt.ids]), use_cache=False).logits[0, -1]
        loss = cross_entropy(logits[list(prompt.label_tokens)][None], torch.tensor([prompt.label]))
        gradients = torch.autograd.grad(loss, _gates)
        n = len(prompt.ids)
        anchors = list(prompt.anchors)
        pairs = torch.ones(n, n, dtype=torch.bool).tril(-1)
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
