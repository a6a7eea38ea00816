"""Check that a model has the properties that experiments rely on, with a few short passes before any result.

Each property is an identity of the model's own logits: with and without taps, from its KV cache and in one pass, alone and
in a batch. The properties that fail decide which experiments the model supports, and how they run (`LanguageModel.can`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import transformers
from torch import Tensor

from anchorflow.attention.backend import tapped
from anchorflow.attention.backward import plain_weights
from anchorflow.attention.core import Attention
from anchorflow.attention.halfway import Halfway
from anchorflow.attention.kv_cache import cache_given, positions_after, positions_given, read
from anchorflow.attention.last_token import Seen
from anchorflow.attention.reach import Attend, decoder_config
from anchorflow.attention.saliency import SaliencyFlow
from anchorflow.errors import UserError, first_line
from anchorflow.models import PROPERTIES, Abilities, LanguageModel, weights_cache
from anchorflow.models.language_model import WITHOUT_ATTENTION
from anchorflow.settings import digest, fingerprint

LENGTH, BEGIN, DROPPED = 16, 10, (2, 3, 6)
"""Tokens of the test text and of its beginning, and positions of the beginning that a KV cache drops."""

TRIES = 3
"""The number of texts. A property holds if one text shows it: rounding may change the choice of a router of experts."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.25}
"""The mean difference of logits, in standard deviations of the logits, above which two passes differ."""

VERSION = 1
"""The version of the check. Raise it when the check changes, to invalidate cached findings."""


def checked(lm: LanguageModel) -> LanguageModel:
    """The model with its abilities. Findings for the same weights are cached."""
    key = _key(lm)
    lacking = _recalled(key) if key else None
    if lacking is None:
        lacking = check(lm)
        if key:
            weights_cache.remember("self-check", key, json.dumps(lacking))
    return replace(lm, can=Abilities(lacking))


def check(lm: LanguageModel) -> dict[str, str]:
    """The properties (see `PROPERTIES`) that this model lacks, each with the size of the error or the exception."""
    lacking = {}
    texts = [_Text.of(lm, start) for start in range(TRIES)]
    for name in PROPERTIES:
        found = ""
        for text in texts:
            found = _differs(text, _CHECKS[name])
            if not found:
                break
        if found:
            lacking[name] = found
    return lacking


def _key(lm: LanguageModel) -> bytes | None:
    if lm.source is None:
        return None
    versions = (VERSION, transformers.__version__, torch.__version__)
    return digest([fingerprint(lm.source), lm.revision, str(lm.dtype), lm.device.type, versions]).encode()


def _recalled(key: bytes) -> dict[str, str] | None:
    """Cached findings; None if there are none or they are invalid."""
    try:
        found = json.loads(weights_cache.recall("self-check", key))
    except ValueError:
        return None
    return found if isinstance(found, dict) and set(found) <= PROPERTIES.keys() else None


@dataclass(frozen=True)
class _Text:
    """A test text and the model's own logits at each of its tokens."""

    lm: LanguageModel
    ids: Tensor
    plain: Tensor

    @classmethod
    def of(cls, lm: LanguageModel, start: int) -> _Text:
        words = lm.model.get_input_embeddings().weight.shape[0]
        special = set(getattr(lm.tokenizer, "all_special_ids", ()))
        special |= {value for name, value in vars(decoder_config(lm.model)).items() if name.endswith("_token_id")}
        usual = [i for i in range(words) if i not in special] or list(range(words))
        ids = torch.tensor([[usual[(start + 1) * 7919 * (i + 1) % len(usual)] for i in range(LENGTH)]])
        text = cls(lm, ids.to(lm.device), torch.empty(0))
        return replace(text, plain=text.logits(text.ids))

    def logits(self, ids: Tensor, **given: object) -> Tensor:
        """[batch, position, word]"""
        with torch.no_grad():
            found: Tensor = self.lm.model(input_ids=ids, **{"use_cache": False, **given}).logits
        return found.double().cpu()


def _differs(text: _Text, pair: Callable[[_Text], tuple[Tensor, Tensor]]) -> str:
    """The difference between two ways to compute the same logits, in words; empty if it is only rounding."""
    try:
        one, other = pair(text)
    except (UserError, ValueError) as error:
        return first_line(error)
    except Exception as error:  # a family that lacks a property may raise anything
        return f"its code ends in {type(error).__name__} ({first_line(error)})"
    off = float((one - other).abs().mean() / text.plain.std())
    return "" if off <= TOLERANCE.get(text.lm.dtype, 0.25) else f"off by {off:.2g} standard deviations of the logits"


def _refuse_choosing(text: _Text) -> None:
    """Refuse layers that select visible positions by score: they do so only in texts longer than the test text."""
    config = decoder_config(text.lm.model)
    chosen = sorted(set(getattr(config, "layer_types", None) or ()) - _WHOLE)
    chosen += [name for name in ("index_topk", "keep_window_size") if getattr(config, name, None)]
    if chosen:
        raise ValueError(f"its layers choose the positions that they see ({', '.join(chosen)})")


def _dense(text: _Text) -> tuple[Tensor, Tensor]:
    _refuse_choosing(text)
    return text.plain, text.plain


_WHOLE = {"full_attention", "sliding_attention", "chunked_attention", "hybrid", "hybrid_sliding", "sparse", "dense"}
_WHOLE |= WITHOUT_ATTENTION


def _untouched(attention: Attention, attend: Attend) -> Tensor:
    return attend(attention)


def _causal(text: _Text) -> tuple[Tensor, Tensor]:
    other = text.ids.clone()
    other[:, BEGIN:] = text.ids[:, : LENGTH - BEGIN]
    return text.logits(other)[:, :BEGIN], text.plain[:, :BEGIN]


def _prefix(text: _Text) -> tuple[Tensor, Tensor]:
    _refuse_choosing(text)
    return text.logits(text.ids[:, :BEGIN]), text.plain[:, :BEGIN]


def _padding(text: _Text) -> tuple[Tensor, Tensor]:
    _refuse_choosing(text)
    shorter = text.ids.clone()
    shorter[:, BEGIN:] = 0
    found = text.logits(torch.cat([text.ids, shorter]))[1:, :BEGIN]
    return found, text.logits(text.ids[:, :BEGIN])


def _context(text: _Text) -> tuple[Tensor, Tensor]:
    _refuse_choosing(text)
    context = read(text.lm.model, text.ids[0, :BEGIN].tolist(), text.lm.device)
    if any(keys.shape[2] != BEGIN for keys in context.keys):
        raise ValueError("not all positions are in the KV cache")
    after = text.ids[:, BEGIN:]
    given = positions_after(text.lm.model, context, (1, after.shape[1]), text.lm.device)
    both = text.ids.new_tensor(after.tolist() * 2)  # a batch whose prompts share the context
    return text.logits(both, **cache_given(text.lm.model, context.cache()), **given)[1:], text.plain[:, BEGIN:]


def _taps(text: _Text) -> tuple[Tensor, Tensor]:
    seen: list[int] = []

    def look(attention: Attention, attend: Attend) -> Tensor:
        if attention.key.shape[2] != LENGTH or attention.query.shape[2] != LENGTH:
            raise ValueError(f"layer {attention.layer + 1} attends to something other than the positions of the text")
        seen.append(attention.layer)
        return attend(attention)

    with tapped(text.lm.model, look):
        found = text.logits(text.ids)
    if tuple(sorted(seen)) != text.lm.shape.attending:
        raise ValueError(f"{len(set(seen))} of the {len(text.lm.shape.attending)} attention layers can be reached")
    return found, text.plain


def _cut(text: _Text) -> tuple[Tensor, Tensor]:
    last = torch.tensor([BEGIN - 1], device=text.lm.device)
    with tapped(text.lm.model, _untouched, only=last):
        return text.logits(text.ids)[:, BEGIN - 1], text.plain[:, BEGIN - 1]


def _gradients(text: _Text) -> tuple[Tensor, Tensor]:
    """Saliency against autograd's gradients of the maps; both in units of the largest, times the spread of the logits."""
    anchors = torch.tensor([[2, BEGIN - 1]], device=text.lm.device)
    last = torch.tensor([LENGTH - 1], device=text.lm.device)
    flow = SaliencyFlow(text.lm.shape, anchors, torch.ones_like(anchors, dtype=torch.bool), last, cut=False)
    with torch.enable_grad(), tapped(text.lm.model, flow):
        found = flow.gather(_loss(text))[:, 0].double().cpu()
    maps: dict[int, Tensor] = {}

    def keep(attention: Attention, attend: Attend) -> Tensor:
        weights = plain_weights(attention)
        maps[attention.layer] = weights if weights.requires_grad else weights.requires_grad_()
        value = attention.value.repeat_interleave(attention.group, dim=1)
        return (weights @ value.to(weights.dtype)).to(attention.query.dtype)

    with torch.enable_grad(), tapped(text.lm.model, keep):
        slopes = torch.autograd.grad(_loss(text), [maps[layer] for layer in text.lm.shape.attending])
    plain = []
    for layer, slope in zip(text.lm.shape.attending, slopes, strict=True):
        flows = (maps[layer] * slope).sum(dim=1).abs()[0].tril(-1).double().cpu()
        to_words, to_target = flows[anchors[0].cpu()].sum(), flows[-1, anchors[0].cpu()].sum()
        pairs, n_words = LENGTH * (LENGTH - 1) / 2, int(anchors.sum())
        others = (flows.sum() - to_words - to_target) / (pairs - n_words - 2)
        plain.append(torch.stack([to_words / n_words, to_target / 2, others]))
    scale = text.plain.std() / torch.stack(plain).max()
    return found.detach() * scale.detach(), torch.stack(plain).detach() * scale.detach()


def _loss(text: _Text) -> Tensor:
    logits = text.lm.model(input_ids=text.ids, use_cache=False).logits[0, -1]
    return -torch.log_softmax(logits.float() if logits.dtype.itemsize < 4 else logits, dim=-1)[int(text.ids[0, 0])]


def _last_token(text: _Text) -> tuple[Tensor, Tensor]:
    last = torch.tensor([LENGTH - 1], device=text.lm.device)
    seen = Seen(last)

    def heads(attention: Attention, attend: Attend) -> Tensor:
        if attention.query.shape[1] != text.lm.shape.heads:
            raise ValueError("its layers differ in their number of heads")
        return attend(attention)

    with tapped(text.lm.model, seen, heads):
        text.logits(text.ids)
    with tapped(text.lm.model, seen.alone()):
        return text.logits(text.ids[:, -1:], **positions_given(text.lm.model, last[:, None])), text.plain[:, -1:]


def _gaps(text: _Text) -> tuple[Tensor, Tensor]:
    """Dropping positions from a KV cache against masking them for all later positions."""
    model, after = text.lm.model, text.ids[:, BEGIN:]
    context = read(model, text.ids[0, :BEGIN].tolist(), text.lm.device)
    context = context.select([i for i in range(BEGIN) if i not in DROPPED], BEGIN)
    given = positions_after(model, context, (1, after.shape[1]), text.lm.device)

    def hide(attention: Attention, attend: Attend) -> Tensor:
        mask = attention.mask.clone()
        mask[:, :, BEGIN:, list(DROPPED)] = torch.finfo(mask.dtype).min
        return attend(replace(attention, mask=mask))

    with tapped(model, hide):
        whole = text.logits(text.ids)[:, BEGIN:]
    return text.logits(after, **cache_given(text.lm.model, context.cache()), **given), whole


def _halfway(text: _Text) -> tuple[Tensor, Tensor]:
    halfway, start = Halfway(text.lm.model), max(1, text.lm.shape.layers // 2)
    with halfway.noting([start]):
        text.logits(text.ids)
    with halfway.beginning(start):
        return text.logits(text.ids), text.plain


_CHECKS: dict[str, Callable[[_Text], tuple[Tensor, Tensor]]] = {
    "causal": _causal,
    "prefix": _prefix,
    "padding": _padding,
    "context": _context,
    "taps": _taps,
    "dense": _dense,
    "gradients": _gradients,
    "cut": _cut,
    "last token": _last_token,
    "gaps": _gaps,
    "halfway": _halfway,
}
