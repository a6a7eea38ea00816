"""Build prompts from demonstrations and a query, with the token positions of all parts.

The whole prompt is tokenised at once, as a user of the model would, and the tokenizer's offsets map
characters to tokens. Positions are therefore right for any tokenizer: byte-level, with or without a
prefix space or BOS, with tokens that span two parts.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from anchorflow.data import Example, Task, Template
from anchorflow.errors import UserError
from anchorflow.prompts.context import UNLIMITED, ContextLimit
from anchorflow.prompts.parts import Demonstration, Prompt, Series


@dataclass(frozen=True)
class _Encoded:
    """The tokens of a text: ids, and the span [start, stop) of characters of each."""

    ids: list[int]
    offsets: list[tuple[int, int]]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate((stop for _, stop in self.offsets), max))  # a special token in the middle has (0, 0)

    def behind(self, character: int) -> int:
        """The first token that ends after this character."""
        return bisect_right(self._ends, character)


def _whole(text: str, tokens: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets that include the blanks which some tokenizers trim from them."""
    ends = [0, *(stop for _, stop in offsets)]
    if ends[-1] == len(text) and ends[:-1] == [
        start for start, _ in offsets
    ]:  # each token begins where the previous one ends
        return list(offsets)
    found, end = [], 0
    for token, (start, stop) in zip(tokens, offsets, strict=True):
        if start >= end and not text[end:start].strip(" "):
            start = end
        if (behind := len(token) - len(token.rstrip("Ġ "))) and start < stop and text[stop - 1] != " ":
            stop += behind
        found.append((start, stop))
        end = max(end, stop)
    return found


_Spans = list[tuple[str, int, int]]
"""The parts of an example: kind (see _PARTS), first character and end."""
_PARTS = {None: "formatting", "text": "text", "text_pair": "text", "label": "label"}


class PromptBuilder:
    """Builds the prompts of one task, called `task`, for one tokenizer. `limit` is the model's context length.

    Raises UserError if the tokenizer gives no character offsets, if two label words begin with the same
    token, or if the first token of a label word includes text before it.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: Template,
        label_words: Sequence[str],
        separator: str,
        limit: ContextLimit = UNLIMITED,
        task: str = "the task",
    ) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(
                f"the tokenizer {type(tokenizer).__name__} does not give character offsets; "
                "use a model with a fast tokenizer (a tokenizer.json file)."
            )
        self.tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        self.template = template
        self.label_words = tuple(label_words)
        self.separator = separator
        self.limit = limit
        self.task = task
        self._last: tuple[tuple[Any, ...], tuple[Demonstration, ...]] | None = None
        self.label_tokens = self._find_label_tokens()

    @classmethod
    def of(cls, task: Task, tokenizer: Any, limit: ContextLimit) -> PromptBuilder:
        """The builder of a task's prompts with the task's own template and label words."""
        return cls(tokenizer, task.template, task.label_words, task.separator, limit, task.name)

    def build(self, demonstrations: Sequence[Example], query: Example) -> Prompt:
        """The prompt for `query` after `demonstrations`; its ids end directly before the query's label word."""
        text, spans, encoded = self._lay_out(demonstrations, query)
        ids, offsets = encoded.ids, encoded.offsets
        cut = self._label_start(spans[-1], text, encoded)
        if ids[cut] != self.label_tokens[0]:
            raise UserError(
                f"in the prompt for test row {query.row} the label word {self.label_words[0]!r} begins with a different token "
                f"than elsewhere ({self._token(ids[cut])!r}); end the template with plain punctuation such as ':'."
            )
        located = self._located(demonstrations, text, spans, encoded, cut)
        shown = text[: offsets[cut - 1][1]]
        start = located[-1].stop if located else 0
        own = next(a for part, a, _ in spans[-1] if part == "text")
        lead = next(i for i in range(start, cut) if offsets[i][1] > own) - start
        return Prompt(query.row, query.label, tuple(ids[:cut]), located, self.label_tokens, shown, lead)

    def pieces(self, demonstrations: Sequence[Example], query: Example) -> tuple[str, ...]:
        """The text of each token of the prompt for `query`; joined, they are the text of the prompt.

        A special token (a BOS) shows its name. If several tokens share a character, the first one shows it.
        """
        text, spans, encoded = self._lay_out(demonstrations, query)
        found, shown = [], 0
        cut = self._label_start(spans[-1], text, encoded)
        for token, (_, stop) in zip(encoded.ids[:cut], encoded.offsets[:cut], strict=True):
            found.append(self._token(token) if token in self._special else text[shown:stop])
            shown = max(shown, stop)
        return tuple(found)

    def with_words(self, label_words: Sequence[str]) -> PromptBuilder:
        """A builder of the same task with other label words."""
        return PromptBuilder(self.tokenizer, self.template, label_words, self.separator, self.limit, self.task)

    def length(self, word: str) -> int:
        """The number of tokens of a label word."""
        return len(self.tokenizer(word, add_special_tokens=False)["input_ids"])

    def series(self, examples: Sequence[Example], shown: Sequence[str], instruction: str = "") -> Series:
        """The prompt of `examples` with the words `shown` as their labels, after an instruction if there is one.

        A shown word need not be a label word; predictions are over the label words.
        """
        text, spans = self._write(examples, shown, instruction)
        encoded = self._encode(text)
        ids, cuts = encoded.ids, []
        for span, word in zip(spans, shown, strict=True):
            first = self._label_start(span, text, encoded)
            if word in self.label_words and ids[first] != self.label_tokens[self.label_words.index(word)]:
                raise UserError(
                    f"the label word {word!r} begins with a different token in a long prompt than elsewhere "
                    f"({self._token(ids[first])!r}); end the template with plain punctuation such as ':'."
                )
            cuts.append(first)
        return Series(array("i", ids[: cuts[-1]]), tuple(cut - 1 for cut in cuts), self.label_tokens)

    def _lay_out(self, demonstrations: Sequence[Example], query: Example) -> tuple[str, list[_Spans], _Encoded]:
        """Text, parts and tokens of the demonstrations and the query.

        The query is written with the first label word, whatever its label, so that the answer cannot leak.
        """
        words = [*(self.label_words[d.label] for d in demonstrations), self.label_words[0]]
        text, spans = self._write([*demonstrations, query], words)
        return text, spans, self._encode(text)

    def _write(
        self, examples: Sequence[Example], words: Sequence[str], instruction: str = ""
    ) -> tuple[str, list[_Spans]]:
        """The text of all examples with their words, and the parts of each example: (part, first character, end)."""
        text, spans = instruction, []
        for example, word in zip(examples, words, strict=True):
            if text:
                text += self.separator
            values = {"text": example.text, "text_pair": example.text_pair or "", "label": word}
            rendered, pieces = self.template.render(values)
            at = len(text)
            spans.append([(_PARTS[field], at + a, at + b) for field, a, b in pieces])
            text += rendered
        return text, spans

    def _encode(self, text: str) -> _Encoded:
        encoded = self.tokenizer(text, return_offsets_mapping=True, verbose=False)
        tokens = self.tokenizer.convert_ids_to_tokens(encoded["input_ids"])
        return _Encoded(encoded["input_ids"], _whole(text, tokens, encoded["offset_mapping"]))

    def _located(
        self, demonstrations: Sequence[Example], text: str, spans: Sequence[_Spans], encoded: _Encoded, cut: int
    ) -> tuple[Demonstration, ...]:
        """The positions of the demonstrations, cached: queries with the same demonstrations and tokens share them."""
        if not demonstrations:
            return ()
        ids, offsets = encoded.ids, encoded.offsets
        starts = [span[0][1] for span in spans]
        end = min(cut, encoded.behind(starts[-1]))
        key = (text[: starts[-1]], ids[:end], offsets[:end], spans[:-1], [d.label for d in demonstrations])
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        located = []
        for k, demonstration in enumerate(demonstrations):
            # A token with the separator's blank and the beginning of the next text belongs to that text.
            first = encoded.behind(starts[k]) if k else self._beginning(ids)
            inside = range(first, min(cut, encoded.behind(starts[k + 1])))
            label_word, texts = set(), set()
            for part, a, b in spans[k]:
                # A token without characters belongs to the part around it.
                held = {i for i in inside if offsets[i][0] < b and max(offsets[i][1], offsets[i][0] + 1) > a}
                if part == "label":
                    label_word |= held
                elif part == "text":
                    texts |= held
            characters = {c for part, a, b in spans[k] if part == "text" for c in range(a, b)}
            anchor = self._label_start(spans[k], text, encoded)
            located.append(
                Demonstration(
                    label=demonstration.label,
                    start=inside.start,
                    stop=inside.stop,
                    anchor=anchor,
                    label_word=tuple(sorted(i for i in label_word if i >= anchor)),
                    formatting=tuple(i for i in inside if i not in texts and (i not in label_word or i < anchor)),
                    merged=tuple(
                        i
                        for i in sorted(texts)
                        if any(text[c] != " " for c in range(*offsets[i]) if c not in characters)
                    ),
                )
            )
        self._last = key, tuple(located)
        return self._last[1]

    def _beginning(self, ids: Sequence[int]) -> int:
        """The first token of the text, after a BOS."""
        return next(i for i, token in enumerate(ids) if token not in self._special)

    @staticmethod
    def _label_start(spans: _Spans, text: str, encoded: _Encoded) -> int:
        """The token with the first character of the label word (its leading blank may be a separate token)."""
        start, stop = next((a, b) for part, a, b in spans if part == "label")
        start += len(text[start:stop]) - len(text[start:stop].lstrip())
        for i in range(encoded.behind(start), len(encoded.offsets)):
            if encoded.offsets[i][0] <= start < encoded.offsets[i][1]:
                return i
        raise UserError(f"no token of this model's tokenizer holds the label word {text[start:stop]!r}.")

    def _find_label_tokens(self) -> tuple[int, ...]:
        """The first tokens of the label words after the template: all must differ and follow the same tokens."""
        firsts, before = [], []
        for label, word in enumerate(self.label_words):
            text, spans = self._write([Example(0, "text", label, "text")], [word])
            encoded = self._encode(text)
            cut = self._label_start(spans[-1], text, encoded)
            firsts.append(encoded.ids[cut])
            before.append(encoded.ids[:cut])
        for label, word in enumerate(self.label_words):
            other = firsts.index(firsts[label])
            if other != label:
                raise UserError(
                    f"{self.task} cannot be asked of {self.limit.model}: the label words {self.label_words[other]!r} and "
                    f"{word!r} begin with the same token {self._token(firsts[label])!r} of its tokenizer; choose words "
                    "that differ in their first token (dataset.label_words, or those of experiment.regimes)."
                )
            if before[label] != before[0]:
                raise UserError(
                    f"this model's tokenizer joins the end of the template {self.template.source!r} with the label word "
                    f"{word!r}; end it with plain punctuation such as ':' and begin every label word with a blank."
                )
        return tuple(firsts)

    def _token(self, token: int) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(token))
