"""Label-word probabilities of prompts: shared demonstrations are prefilled once, logits computed only where needed."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.cache_utils import Cache

from anchorflow.attention.kv_cache import Context, cache_given, positions_after, positions_given, read
from anchorflow.attention.reach import replaced
from anchorflow.models import LanguageModel, to_device
from anchorflow.prompts import Prompt, Series

T = TypeVar("T", bound=Any)
TOP = 5
"""The number of most probable next words that a record keeps; word loyalty (sec. 2.2) compares them."""

ENOUGH, PADDING = 1024, 0.1
"""The padded tokens that keep a device busy, and the share of padding that a batch of that size may have."""

LENT = 8
"""This many tokens of a shared context count as one token of the budget: only one layer's copy of them is alive at a time."""


@dataclass(frozen=True)
class Batch:
    """Prompts that continue the same context (or none): the tokens after it, padded on the right.

    With padding on the right, positions, causal masks and sliding windows are those of a single prompt.
    `anchors` count from the prompt's first token, `targets` from the first column of `ids`.
    """

    context: tuple[int, ...]
    ids: Int[Tensor, "batch position"]
    targets: Int[Tensor, " batch"]
    anchors: Int[Tensor, "batch anchor"]
    is_anchor: Bool[Tensor, "batch anchor"]
    labels: Int[Tensor, " batch"]
    label_tokens: Int[Tensor, " label"]
    positions: Int[Tensor, "batch position"] | None = None
    """Positions of `ids`, if they do not simply continue those of the context."""

    def targets_alone(self, of: Sequence[int] | None = None) -> "Batch":
        """The last token of each prompt, or of the prompts `of`: all that is left to compute if the KV cache has the rest."""
        rows = to_device(range(len(self.ids)) if of is None else of, self.ids.device)
        targets = self.targets[rows]
        return replace(
            self,
            context=(),
            ids=self.ids[rows, targets][:, None],
            targets=torch.zeros_like(targets),
            anchors=self.anchors[rows],
            is_anchor=self.is_anchor[rows],
            labels=self.labels[rows],
            positions=(len(self.context) + targets)[:, None],
        )


def plan(prompts: Sequence[Prompt], batch_tokens: int, shared: bool = False) -> list[list[Prompt]]:
    """Batches of prompts of similar length with at most `batch_tokens` padded tokens; a longer prompt is a batch of its own.

    With `shared`, all prompts of a batch share everything before their own text, and only an eighth of it counts.
    Batches depend only on the prompts and the budget: a resumed run makes the same ones.
    """
    groups: dict[tuple[int, ...], list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.shared if shared else (), []).append(prompt)
    batches: list[list[Prompt]] = []
    for context, group in groups.items():
        besides = len(context) - len(context) / LENT
        in_order = sorted(group, key=lambda p: (-len(p.ids), p.query))
        batches += pack(in_order, [len(prompt.ids) - besides for prompt in in_order], batch_tokens)
    return batches


def pack(items: Sequence[T], sizes: Sequence[int | float], budget: int) -> list[list[T]]:
    """Batches of items, largest first, whose padded size is at most `budget`; a larger item is a batch of its own.

    A batch that keeps the device busy takes no further item that would raise its padding above a tenth.
    """
    batches: list[list[T]] = []
    largest: int | float = 0
    whole: int | float = 0
    for item, size in zip(items, sizes, strict=True):
        padded = (len(batches[-1]) + 1) * largest if batches else math.inf
        if padded <= budget and (padded - largest < ENOUGH or whole + size >= (1 - PADDING) * padded):
            batches[-1].append(item)
            whole += size
        else:
            batches.append([item])
            largest = whole = size
    return batches


def readable(lm: LanguageModel, batches: Sequence[Sequence[T]], batch_tokens: int) -> list[Sequence[T]]:
    """Batches that this model computes correctly: whole prompts if it cannot continue from a KV cache, of equal length if
    padding changes its numbers.
    """
    if "padding" in lm.can and "context" in lm.can:
        return list(batches)
    found: list[Sequence[T]] = []
    for batch in batches:
        groups: dict[int, list[T]] = {}
        for unit in batch:
            groups.setdefault(0 if "padding" in lm.can else unit.length, []).append(unit)
        for group in groups.values():
            found += pack(group, [unit.length for unit in group], batch_tokens)
    return found


def collate(prompts: Sequence[Prompt], device: torch.device | str, context: tuple[int, ...] = ()) -> Batch:
    """The batch of these prompts, which all begin with `context`; `ids` holds the tokens after it.

    Shorter prompts are padded on the right; missing anchors repeat the first one.
    """
    if any(p.ids[: len(context)] != context for p in prompts):
        raise ValueError("prompts of one batch must begin with its context")
    follow = [p.ids[len(context) :] for p in prompts]
    length = max(len(ids) for ids in follow)
    most = max(len(p.anchors) for p in prompts)
    fill = [most - len(p.anchors) for p in prompts]
    anchors = [(*p.anchors, *[(p.anchors or (0,))[0]] * n) for p, n in zip(prompts, fill, strict=True)]
    return Batch(
        context=context,
        ids=to_device([(*ids, *[0] * (length - len(ids))) for ids in follow], device),
        targets=to_device([len(ids) - 1 for ids in follow], device),
        anchors=to_device(anchors, device, torch.long),
        is_anchor=to_device([[True] * (most - n) + [False] * n for n in fill], device, torch.bool),
        labels=to_device([p.label for p in prompts], device),
        label_tokens=to_device(prompts[0].label_tokens, device),
    )


class Contexts(Generic[T]):
    """A cache of one context: what `make` computes from the shared part of a prompt, until a prompt with another part comes."""

    def __init__(self, make: Callable[[Prompt], T]) -> None:
        self._make = make
        self._last: tuple[tuple[int, ...], T] | None = None

    def __call__(self, prompt: Prompt) -> T:
        """The context of this prompt, computed only if the previous prompt had another one."""
        if self._last is None or self._last[0] != prompt.shared:
            self._last = prompt.shared, self._make(prompt)
        return self._last[1]


def after_demonstrations(
    lm: LanguageModel, batches: Iterable[Sequence[Prompt]]
) -> Iterator[tuple[Sequence[Prompt], Batch, Context]]:
    """The prompts of each batch, the batch, and the context of its demonstrations, prefilled once for all that share it.

    If the model cannot continue from a KV cache, batches hold whole prompts and the context is empty.
    """
    if "context" not in lm.can:
        yield from ((prompts, collate(prompts, lm.device), Context((), (), 0)) for prompts in batches)
        return
    contexts = Contexts(lambda prompt: read(lm.model, prompt.shared, lm.device))
    for prompts in batches:
        yield prompts, collate(prompts, lm.device, prompts[0].shared), contexts(prompts[0])


def only(lm: LanguageModel, batch: Batch) -> Int[Tensor, " batch"] | None:
    """The positions to which `tapped` may restrict the computation after the last layer's attention."""
    return batch.targets if "cut" in lm.can else None


def predict(lm: LanguageModel, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """`scores` of whole prompts in one batch, for prompts that share no context."""
    batch = collate(prompts, lm.device)
    with torch.no_grad():
        return scores(next_word_logits(lm, batch), batch)


def next_word_logits(
    lm: LanguageModel, batch: Batch, context: Context | None = None, label_words_only: bool = False
) -> Float[Tensor, "batch word"]:
    """Logits over the vocabulary, or over the label words, at the target positions only; at least float32.

    The logits of label words are computed in float32 or more: rounded to bfloat16, many would be equal. Only they carry
    gradients: no loss here uses other words, and a backward pass through the whole vocabulary costs as much as a forward one.
    `batch.ids` continue `context`. Its `next_position` may differ from its number of positions if the model accepts
    position ids (UserError if not).
    """
    given: dict[str, Any] = {}
    if batch.positions is not None:
        given = positions_given(lm.model, batch.positions)
    elif context is not None and len(context):
        given = cache_given(lm.model, context.cache())
        shape = (batch.ids.shape[0], batch.ids.shape[1])
        given |= positions_after(lm.model, context, shape, batch.ids.device)
    with ExitStack() as stack:
        stack.enter_context(_at(lm, batch.targets[:, None]))
        stack.enter_context(_words(lm, batch.label_tokens, others=not label_words_only))
        logits = lm.model(**{"input_ids": batch.ids, "use_cache": False, **given}).logits[:, 0]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def label_log_probabilities_along(
    lm: LanguageModel, batch: Sequence[Series], after: Context | None = None
) -> list[Float[Tensor, "target label"]]:
    """Log-probabilities at every target of each series, normalised over the first tokens of its label words, on the CPU.

    One forward pass for all series, padded on the right, with logits only at the targets and only of the batch's label
    words. With `after`, all series begin with this context, and the targets are those after it.
    """
    start, cache = (0, None) if after is None else (len(after), after.cache())
    words = sorted({token for series in batch for token in series.label_tokens})
    targets = [[target - start for target in series.targets if target >= start] for series in batch]
    logits = logits_along(lm, [series.ids[start:] for series in batch], targets, words, cache)
    return [normalised(row[: len(own)], words, series) for row, own, series in zip(logits, targets, batch, strict=True)]


def logits_along(
    lm: LanguageModel,
    ids: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    words: Sequence[int],
    cache: Cache | None = None,
) -> Float[Tensor, "row target word"]:
    """Logits of these words at these positions of each row, at least float32, on the CPU; short rows are padded.

    A `cache` holds the keys and values before all rows; those of the rows are appended to it.
    """
    length, most = max(map(len, ids)), max(map(len, targets))
    given = {"use_cache": False} if cache is None else cache_given(lm.model, cache)
    rows = to_device([(*row, *[0] * (length - len(row))) for row in ids], lm.device)
    places = to_device([(*row, *[0] * (most - len(row))) for row in targets], lm.device)
    with torch.no_grad(), _at(lm, places), _words(lm, to_device(words, lm.device)):
        logits = lm.model(input_ids=rows, **given).logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).cpu()


def normalised(
    logits: Float[Tensor, "target word"], words: Sequence[int], series: Series
) -> Float[Tensor, "target label"]:
    """Log-probabilities over the label words of a series, from logits over `words`."""
    return torch.log_softmax(logits[:, [words.index(token) for token in series.label_tokens]], dim=-1)


@contextmanager
def _at(lm: LanguageModel, targets: Int[Tensor, "batch target"]) -> Iterator[None]:
    """Within the block, the LM head sees only the hidden states of these positions."""

    def pick(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = inputs[0]
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        return (hidden[rows, targets.to(hidden.device)], *inputs[1:])

    hook = lm.model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _words(lm: LanguageModel, words: Int[Tensor, " word"], others: bool = False) -> Iterator[None]:
    """Within the block, the LM head computes the logits of these words in float32 or more, and, with `others`, of all other
    words without gradients.
    """
    head = lm.model.get_output_embeddings()
    whole = head.forward

    def part(hidden: Tensor) -> Tensor:
        if type(head) is not nn.Linear:  # quantised: single rows cannot be selected
            return whole(hidden) if others else whole(hidden)[..., words.to(hidden.device)]
        precision = torch.promote_types(hidden.dtype, torch.float32)
        chosen = words.to(head.weight.device)
        bias = None if head.bias is None else head.bias[chosen].to(precision)
        found = nn.functional.linear(hidden.to(precision), head.weight[chosen].to(precision), bias)
        if not others:
            return found
        with torch.no_grad():
            logits = whole(hidden).to(precision)
        return logits.index_copy(-1, chosen, found)

    with replaced(head, "forward", part):
        yield


def label_log_probabilities(logits: Float[Tensor, "batch word"], batch: Batch) -> Float[Tensor, "batch label"]:
    """Log-probabilities normalised over the label words' first tokens."""
    return torch.log_softmax(logits[:, batch.label_tokens.to(logits.device)], dim=-1)


def scores(logits: Float[Tensor, "batch word"], batch: Batch) -> list[dict[str, Any]]:
    """The part of a record about each prompt: `probs` over the label words, `top5` token ids over the vocabulary."""
    with torch.no_grad():
        probs = label_log_probabilities(logits, batch).exp().tolist()
        top = logits.topk(TOP).indices.tolist()
    return [{"probs": p, f"top{TOP}": t} for p, t in zip(probs, top, strict=True)]
