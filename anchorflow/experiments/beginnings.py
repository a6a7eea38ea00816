"""Series with a common prefix: the prefix is prefilled once, and the series continue from its KV cache.

Regimes of a repetition show the same examples: a context that switches to flipped labels after k examples has the default
labels until then. The numbers equal those of each series computed alone, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from anchorflow.prompts import Series

if TYPE_CHECKING:
    from torch import Tensor

    from anchorflow.attention import Context
    from anchorflow.models import LanguageModel

SHORTEST = 128
"""The number of common tokens from which a separate prefill pays off."""


def scores_along(lm: LanguageModel, families: Sequence[Sequence[Series]], budget: int) -> list[list[Tensor]]:
    """Log-probabilities at every target of each series [target, label], normalised over its label words, on the CPU.

    The series of a family may share prefixes. `budget` is the maximal number of padded tokens in a pass.
    """
    reader = _Reader(lm, [series for family in families for series in family], budget)
    places = iter(range(len(reader.series)))
    alone: list[int] = []
    for family in families:
        members = [next(places) for _ in family]
        alone += reader.branches(members, 0, None) if _continues(lm) else members
    reader.read(alone, 0, None)
    found = iter(reader.scores())
    return [[next(found) for _ in family] for family in families]


class _Reader:
    """Computes series from their prefixes on and collects the scores of each piece."""

    def __init__(self, lm: LanguageModel, series: Sequence[Series], budget: int) -> None:
        self.series = series
        self._lm = lm
        self._budget = budget
        self._found: list[list[Tensor]] = [[] for _ in series]

    def scores(self) -> list[Tensor]:
        """The scores of each series, its pieces concatenated."""
        import torch

        return [torch.cat(pieces) for pieces in self._found]

    def branches(self, members: Sequence[int], start: int, context: Context | None) -> list[int]:
        """Compute, from `start`, prefixes that several members share, and then the rest; returns the other members."""
        groups: dict[bytes, list[int]] = {}
        for i in members:
            groups.setdefault(self.series[i].ids[start : start + SHORTEST].tobytes(), []).append(i)
        alone = []
        for group in groups.values():
            stop = _alike(*(self.series[i].ids for i in group))
            if len(group) == 1 or stop - start < SHORTEST:
                alone += group
                continue
            together = self._read_stem(group, start, stop, context)
            longer = [i for i in group if len(self.series[i].ids) > stop]
            self.read(self.branches(longer, stop, together), stop, together)
        return alone

    def read(self, members: Sequence[int], start: int, context: Context | None) -> None:
        """Compute these members to their ends, in batches of similar length that continue the same context."""
        from anchorflow.scoring import LENT, label_log_probabilities_along, pack

        in_order = sorted(members, key=lambda i: -len(self.series[i].ids))
        sizes = [len(self.series[i].ids) - start + start / LENT for i in in_order]
        batches = pack(in_order, sizes, self._budget)
        if "padding" not in self._lm.can:  # padding would change the numbers
            batches = [[i] for i in in_order]
        for batch in batches:
            scored = label_log_probabilities_along(self._lm, [self.series[i] for i in batch], context)
            for i, scores in zip(batch, scored, strict=True):
                self._found[i].append(scores)

    def _read_stem(self, group: Sequence[int], start: int, stop: int, context: Context | None) -> Context:
        """Prefill the tokens from `start` to `stop`, which the whole group shares; each member keeps its scores there."""
        from anchorflow.scoring import normalised

        of_group = [self.series[i] for i in group]
        targets = sorted({t for series in of_group for t in series.targets if start <= t < stop})
        words = sorted({token for series in of_group for token in series.label_tokens})
        # Without a target in the prefix, its last position: a pass needs at least one.
        asked = [target - start for target in targets] or [stop - start - 1]
        logits, read = read_on(self._lm, of_group[0].ids[start:stop], asked, words, context)
        for i, series in zip(group, of_group, strict=True):
            own = [targets.index(t) for t in series.targets if start <= t < stop]
            self._found[i].append(normalised(logits[own], words, series))
        return read


def read_on(
    lm: LanguageModel, ids: Sequence[int], targets: Sequence[int], words: Sequence[int], after: Context | None
) -> tuple[Tensor, Context]:
    """Logits of these words at these positions of a text that continues `after` [target, word], and the extended context."""
    from anchorflow.attention.kv_cache import growing, kept
    from anchorflow.scoring import logits_along

    cache = growing(after)
    (logits,) = logits_along(lm, [ids], [targets], words, cache)
    return logits, kept(cache, (0 if after is None else len(after)) + len(ids))


def choose(
    lm: LanguageModel, write: Callable[[Sequence[str]], Series], words: Sequence[str], n: int
) -> tuple[list[str], Tensor]:
    """Label `n` examples with the model's own predictions, each after the earlier examples and their predicted words.

    Returns the words, and the log-probabilities for each of them [example, label], on the CPU. `write` makes the prompt of
    the first examples with the given words.
    """
    import torch

    from anchorflow.scoring import label_log_probabilities_along, normalised

    goes_on = _continues(lm)
    chosen: list[str] = []
    found: list[Tensor] = []
    read: Sequence[int] = ()
    context: Context | None = None
    for _ in range(n):
        series = write([*chosen, words[0]])  # a prompt ends before its last word
        if goes_on:
            # A tokenizer may join a word with the text after it: then that token is computed again.
            same = min(_alike(read, series.ids), len(series.ids) - 1)
            before = None if context is None else context.select(range(same), same)
            last = len(series.ids) - 1 - same
            logits, context = read_on(lm, series.ids[same:], [last], series.label_tokens, before)
            read = series.ids
            found.append(normalised(logits, series.label_tokens, series))
        else:
            found.append(label_log_probabilities_along(lm, [series])[0][-1:])
        chosen.append(words[int(found[-1].argmax())])
    return chosen, torch.cat(found)


def _continues(lm: LanguageModel) -> bool:
    """Whether a text in two passes gives the same as in one."""
    return "context" in lm.can and "prefix" in lm.can


def _alike(*texts: Sequence[int]) -> int:
    """The length of their common prefix in tokens."""
    together = zip(*texts, strict=False)
    return next((i for i, tokens in enumerate(together) if len(set(tokens)) > 1), min(map(len, texts)))
