"""Every token of a prompt belongs to one part, for tokenizers of every manner; the same ids have the same parts."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorflow.data import Example, Template
from anchorflow.prompts import PromptBuilder
from tests.prompts.test_prompts import byte_level, metaspace
from tests.prompts.test_separators import joining

TOKENIZERS = {
    "byte level": byte_level,
    "byte level, trimmed": lambda: byte_level(trim=True),
    "byte level, BOS": lambda: byte_level(bos=True, trim=True),
    "sentencepiece": lambda: metaspace(bos=True),
    "sentencepiece, LLaMA's normalizer": lambda: metaspace(bos=True, prepend="normalizer"),
    "Qwen, Llama 3": joining,
}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(str.strip) | st.text(
    " a.\n\t", min_size=1
).map(lambda text: f"x{text}y")
shown = st.lists(st.tuples(texts, st.integers(0, 1)), min_size=1, max_size=3)


@cache
def builder(name: str) -> PromptBuilder:
    tokenizer: Any = TOKENIZERS[name]()
    return PromptBuilder(tokenizer, Template("Review:  {text}\nSentiment:{label}"), (" Negative", " Positive"), "  \n")


def examples(rows: list[tuple[str, int]]) -> list[Example]:
    return [Example(i, text.strip(), label) for i, (text, label) in enumerate(rows)]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=30, deadline=None)
@given(shown, texts)
def test_every_token_belongs_to_one_part(name: str, rows: list[tuple[str, int]], query: str) -> None:
    demonstrations = examples(rows)
    prompt = builder(name).build(demonstrations, Example(9, query.strip(), 0))
    text, spans, encoded = builder(name)._lay_out(demonstrations, Example(9, query.strip(), 0))
    special = set(builder(name).tokenizer.all_special_ids)
    at = sum(token in special for token in prompt.ids[: prompt.demonstrations[0].start])
    for demonstration, parts in zip(prompt.demonstrations, spans, strict=False):
        assert demonstration.start == at, "demonstrations follow one another, from the first token of the text"
        inside = range(demonstration.start, demonstration.stop)
        held = {*demonstration.label_word, *demonstration.formatting}
        assert len(held) == len(demonstration.label_word) + len(demonstration.formatting)
        assert held <= set(inside)
        of_text = {c for part, a, b in parts if part == "text" for c in range(a, b)}
        for i in set(inside) - held:
            assert of_text & set(range(encoded.offsets[i][0], max(encoded.offsets[i][1], encoded.offsets[i][0] + 1)))
        at = demonstration.stop
    assert at < len(prompt.ids)
    if name != "sentencepiece, LLaMA's normalizer":  # which counts the blank that it puts in front
        reached = 0
        for start, stop in encoded.offsets[prompt.demonstrations[0].start :]:
            assert start <= reached, f"no character of {text!r} is without a token"
            reached = max(reached, stop)
        assert reached == len(text)


@settings(max_examples=100, deadline=None)
@given(shown, texts)
def test_the_same_ids_have_the_same_parts_whatever_the_tokenizer_trims(rows: list[tuple[str, int]], query: str) -> None:
    demonstrations = examples(rows)
    whole, trimmed = (
        builder(name).build(demonstrations, Example(9, query.strip(), 0))
        for name in ("byte level", "byte level, trimmed")
    )
    assert whole == trimmed
