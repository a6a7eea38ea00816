"""Label-word probabilities of prompts: batched by a token budget, logits only where they are needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from anchorflow.models import LanguageModel
from anchorflow.prompts import Prompt

TOP = 5
"""How many of the most probable next words a record keeps (word loyalty compares them)."""


@dataclass(frozen=True)
class Batch:
    """Prompts padded on the left, so that the target of every one is the last position."""

    ids: Int[Tensor, "batch position"]
    real: Bool[Tensor, "batch position"]
    anchors: Int[Tensor, "batch anchor"]
    is_anchor: Bool[Tensor, "batch anchor"]
    labels: Int[Tensor, " batch"]
    label_tokens: Int[Tensor, " label"]


def plan(prompts: Sequence[Prompt], batch_tokens: int) -> list[list[Prompt]]:
    """Batches of prompts of similar length whose padded size is at most `batch_tokens` (a longer prompt goes alone).

    It depends on nothing but the prompts and the budget: a resumed run makes the same batches.
    """
    batches: list[list[Prompt]] = []
    for prompt in sorted(prompts, key=lambda p: (-len(p.ids), p.query)):
        if batches and (len(batches[-1]) + 1) * len(batches[-1][0].ids) <= batch_tokens:
            batches[-1].append(prompt)
        else:
            batches.append([prompt])
    return batches


def collate(prompts: Sequence[Prompt], device: torch.device | str) -> Batch:
    """One tensor of each kind; shorter prompts are padded on the left, fewer anchors filled up with the first."""
    length = max(len(p.ids) for p in prompts)
    most = max(len(p.anchors) for p in prompts)
    ids, real, anchors, is_anchor = [], [], [], []
    for p in prompts:
        pad = length - len(p.ids)
        ids.append([0] * pad + list(p.ids))
        real.append([False] * pad + [True] * len(p.ids))
        fill = most - len(p.anchors)
        anchors.append([pad + a for a in (*p.anchors, *[(p.anchors or (0,))[0]] * fill)])
        is_anchor.append([True] * len(p.anchors) + [False] * fill)
    return Batch(
        ids=torch.tensor(ids, device=device),
        real=torch.tensor(real, device=device),
        anchors=torch.tensor(anchors, dtype=torch.long, device=device),
        is_anchor=torch.tensor(is_anchor, dtype=torch.bool, device=device),
        labels=torch.tensor([p.label for p in prompts], device=device),
        label_tokens=torch.tensor(prompts[0].label_tokens, device=device),
    )


def next_word_logits(lm: LanguageModel, batch: Batch) -> Float[Tensor, "batch word"]:
    """Logits over the vocabulary at the target positions, and nowhere else; at least float32."""
    positions = (batch.real.cumsum(dim=1) - 1).clamp(min=0)
    given = {"position_ids": positions} if lm.takes_positions else {}
    output = lm.model(input_ids=batch.ids, attention_mask=batch.real.long(), use_cache=False, logits_to_keep=1, **given)
    logits = output.logits[:, -1]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def label_log_probabilities(logits: Float[Tensor, "batch word"], batch: Batch) -> Float[Tensor, "batch label"]:
    """Log-probabilities normalised over the label words' first tokens."""
    return torch.log_softmax(logits[:, batch.label_tokens.to(logits.device)], dim=-1)


def scores(logits: Float[Tensor, "batch word"], batch: Batch) -> list[dict[str, Any]]:
    """What a record keeps of each prompt: `probs` over the label words, `top5` token ids over the vocabulary."""
    with torch.no_grad():
        probs = label_log_probabilities(logits, batch).exp().tolist()
        top = logits.topk(TOP).indices.tolist()
    return [{"probs": p, f"top{TOP}": t} for p, t in zip(probs, top, strict=True)]
