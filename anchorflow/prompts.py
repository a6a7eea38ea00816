"""Demonstrations and a query become a prompt that knows the position of its parts.

The whole prompt is tokenised at once, as a user of the model would, and characters are traced to
tokens through the tokenizer's offsets. So positions hold for any tokenizer: byte-level, with or
without a prefix space or BOS, with tokens that straddle two parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from anchorflow.data import Example
from anchorflow.errors import UserError
from anchorflow.templates import Template

_PARTS = {None: "formatting", "text": "text", "text_pair": "text", "label": "label"}


@dataclass(frozen=True)
class Demonstration:
    """Where one demonstration lies in its prompt: token positions, from 0.

    `anchor` is the first token of the label word; `label_word` all its tokens; `formatting` every token
    that holds no character of the text or the label, the separator behind it included.
    """

    label: int
    start: int
    stop: int
    anchor: int
    label_word: tuple[int, ...]
    formatting: tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """Token ids up to the target position, from which the label word is predicted.

    `label_tokens` holds the first token of each class's label word. `query` is the row of the query in
    its split, `label` its true class.
    """

    query: int
    label: int
    ids: tuple[int, ...]
    demonstrations: tuple[Demonstration, ...]
    label_tokens: tuple[int, ...]
    text: str

    @property
    def target(self) -> int:
        """The last position, called q in the papers."""
        return len(self.ids) - 1

    @property
    def context(self) -> tuple[int, ...]:
        """The tokens of the demonstrations, the separator behind the last one included."""
        return self.ids[: self.demonstrations[-1].stop] if self.demonstrations else ()

    @property
    def anchors(self) -> tuple[int, ...]:
        """The positions p_k of the demonstrations' label words, in order."""
        return tuple(demonstration.anchor for demonstration in self.demonstrations)


class PromptBuilder:
    """Builds the prompts of one task for one tokenizer.

    Raises UserError when the tokenizer cannot tell where its tokens come from, when two label words begin
    with the same token, or when a label word's start cannot be told from the text in front of it.
    """

    def __init__(self, tokenizer: Any, template: Template, label_words: Sequence[str], separator: str) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(
                f"the tokenizer {type(tokenizer).__name__} does not give character offsets; "
                "use a model with a fast tokenizer (a tokenizer.json file)."
            )
        self.tokenizer = tokenizer
        self.template = template
        self.label_words = tuple(label_words)
        self.separator = separator
        self.label_tokens = self._find_label_tokens()

    def build(self, demonstrations: Sequence[Example], query: Example) -> Prompt:
        """The prompt for `query` after `demonstrations`; its ids end right before the query's label word."""
        # The query is written with the first class's word, whatever its own: nothing of the answer can leak.
        text, spans = self._write([*demonstrations, replace(query, label=0)])
        ids, offsets = self._encode(text)
        cut = self._label_start(spans[-1], text, offsets)
        if ids[cut] != self.label_tokens[0]:
            raise UserError(
                f"in the prompt for test row {query.row} the label word {self.label_words[0]!r} begins with another token "
                f"than elsewhere ({self._token(ids[cut])!r}); end the template with a plain sign such as ':'."
            )
        starts = [span[0][1] for span in spans]
        located = []
        for k, demonstration in enumerate(demonstrations):
            inside = [i for i, (a, b) in enumerate(offsets[:cut]) if starts[k] <= a < starts[k + 1] and a < b]
            label_word, texts = set(), set()
            for part, a, b in spans[k]:
                held = {i for i in inside if offsets[i][0] < b and offsets[i][1] > a}
                if part == "label":
                    label_word |= held
                elif part == "text":
                    texts |= held
            anchor = self._label_start(spans[k], text, offsets)
            located.append(
                Demonstration(
                    label=demonstration.label,
                    start=inside[0],
                    stop=inside[-1] + 1,
                    anchor=anchor,
                    label_word=tuple(sorted(i for i in label_word if i >= anchor)),
                    formatting=tuple(i for i in inside if i not in texts and (i not in label_word or i < anchor)),
                )
            )
        shown = text[: offsets[cut - 1][1]]
        return Prompt(query.row, query.label, tuple(ids[:cut]), tuple(located), self.label_tokens, shown)

    def _write(self, examples: Sequence[Example]) -> tuple[str, list[list[tuple[str, int, int]]]]:
        """The text of all examples, each with its label, and each one's parts: (part, first character, end)."""
        text, spans = "", []
        for number, example in enumerate(examples):
            if number:
                text += self.separator
            values = {
                "text": example.text,
                "text_pair": example.text_pair or "",
                "label": self.label_words[example.label],
            }
            rendered, pieces = self.template.render(values)
            at = len(text)
            spans.append([(_PARTS[field], at + a, at + b) for field, a, b in pieces])
            text += rendered
        return text, spans

    def _encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoded = self.tokenizer(text, return_offsets_mapping=True, verbose=False)
        return encoded["input_ids"], encoded["offset_mapping"]

    @staticmethod
    def _label_start(spans: Sequence[tuple[str, int, int]], text: str, offsets: Sequence[tuple[int, int]]) -> int:
        """The token that holds the label word's first character (its leading blank may be a token of its own)."""
        start, stop = next((a, b) for part, a, b in spans if part == "label")
        start += len(text[start:stop]) - len(text[start:stop].lstrip())
        for i, (a, b) in enumerate(offsets):
            if a <= start < b:
                return i
        raise UserError(f"no token of this model's tokenizer holds the label word {text[start:stop]!r}.")

    def _find_label_tokens(self) -> tuple[int, ...]:
        """First tokens of the label words behind the template; all must be told apart there and follow the same text."""
        firsts, before = [], []
        for label in range(len(self.label_words)):
            text, spans = self._write([Example(0, "text", label, "text")])
            ids, offsets = self._encode(text)
            cut = self._label_start(spans[-1], text, offsets)
            firsts.append(ids[cut])
            before.append(ids[:cut])
        for label, word in enumerate(self.label_words):
            other = firsts.index(firsts[label])
            if other != label:
                raise UserError(
                    f"dataset.label_words: {self.label_words[other]!r} and {word!r} begin with the same token "
                    f"{self._token(firsts[label])!r} of this model's tokenizer; choose words that differ in their first token."
                )
            if before[label] != before[0]:
                raise UserError(
                    f"this model's tokenizer joins the end of the template {self.template.source!r} with the label word "
                    f"{word!r}; end it with a plain sign such as ':' and begin every label word with a blank."
                )
        return tuple(firsts)

    def _token(self, token: int) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(token))
