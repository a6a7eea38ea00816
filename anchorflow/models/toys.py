"""A toy tokenizer and small configurations: complete models without a download."""

from __future__ import annotations

import string
from typing import Any

WORDS = """
Review Sentiment Negative Positive Question Answer Type Abbreviation Entity Description Person Location Number Article
World Sports Business Technology Dialogue Emotion Others Happy Sad Angry Sentence negative positive neutral objective
subjective hate neutral yes no true false good bad green blue sea chair equivalent different similar entailment
the of and to in is that it was for on are as with his they at be this from have or by one had not but what all
"""
"""Words that, with a blank before them, are single tokens of the toy tokenizer; others split into letters."""
POSITIONS = 2048
"""The longest prompt of a toy, in tokens."""


def tokenizer() -> Any:
    """A byte-level tokenizer like GPT-2's with a few dozen words: any text round-trips."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    # As in real tokenizers, every letter after a blank is also a token.
    for word in dict.fromkeys([*string.ascii_letters, *WORDS.split()]):
        token = "Ġ"  # byte-level tokenizers write a blank like this
        for letter in word:
            if token + letter not in vocabulary:
                vocabulary[token + letter] = len(vocabulary)
                merges.append((token, letter))
            token += letter
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


def config(family: str, words: int, layers: int, heads: int, width: int, positions: int = POSITIONS) -> Any:
    """A configuration of `family` (gpt2, gptj, llama); llama has two query heads per key head if their number is even."""
    from transformers import GPT2Config, GPTJConfig, LlamaConfig

    # A large spread, so that attention is far from uniform and no two label words score the same.
    spread: dict[str, Any] = {"initializer_range": 0.3, "bos_token_id": None, "eos_token_id": None}
    if family == "gpt2":
        return GPT2Config(vocab_size=words, n_layer=layers, n_head=heads, n_embd=width, n_positions=positions, **spread)
    if family == "gptj":
        rotary = width // heads // 2 // 2 * 2 or 2
        return GPTJConfig(
            vocab_size=words,
            n_layer=layers,
            n_head=heads,
            n_embd=width,
            n_positions=positions,
            rotary_dim=rotary,
            **spread,
        )
    return LlamaConfig(
        vocab_size=words,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2 if heads % 2 == 0 else heads,
        hidden_size=width,
        intermediate_size=2 * width,
        max_position_embeddings=positions,
        **spread,
    )
