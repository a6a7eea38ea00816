"""The nine tasks of "In-Context Learning Learns Label Relationships", as the method sheet's table has them, and whether
tokenizers of three kinds tell their label words apart.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from anchorflow.data import Template
from anchorflow.errors import UserError
from anchorflow.prompts import ContextLimit, PromptBuilder
from anchorflow.runs import read_settings
from tests.conftest import ROOT
from tests.test_settings import composed

SENTENCE = "Sentence: '{text}' \nAnswer:{label}"
PAIR = "Sentence 1: '{text}'\nSentence 2: '{text_pair}' \nAnswer:{label}"
EQUIVALENT = ("not equivalent", "equivalent")
ENTAILMENT = ("not entailment", "entailment")


class TheirTask(NamedTuple):
    """A row of the table. Two numbers are those for contexts of 2k and 4k."""

    template: str
    words: tuple[str, ...]
    sizes: tuple[int, int]
    turns: tuple[int, int]


TASKS = {
    "sst2": TheirTask(SENTENCE, ("negative", "positive"), (70, 140), (30, 60)),
    "subj": TheirTask(SENTENCE, ("objective", "subjective"), (40, 80), (15, 30)),
    "financial_phrasebank": TheirTask(SENTENCE, ("negative", "neutral", "positive"), (45, 80), (15, 30)),
    "hate_speech18": TheirTask(SENTENCE, ("not hate speech", "hate speech"), (40, 80), (10, 20)),
    "agnews": TheirTask(SENTENCE, ("world", "sports", "business", "science and technology"), (30, 50), (10, 20)),
    "medical_questions_pairs": TheirTask(PAIR.replace("Sentence", "Question"), EQUIVALENT, (25, 50), (10, 20)),
    "mrpc": TheirTask(PAIR, EQUIVALENT, (20, 40), (10, 17)),
    "rte": TheirTask(PAIR, ENTAILMENT[::-1], (15, 30), (5, 10)),  # in the order of GLUE's ids
    "wnli": TheirTask(PAIR, ENTAILMENT, (40, 60), (10, 20)),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_written_as_in_the_paper_and_else_the_plain_one(name: str) -> None:
    found, plain = (composed(f"dataset={option}")["dataset"] for option in (f"sentence_answer/{name}", name))
    assert found["template"] == TASKS[name].template
    assert found["label_words"] == [f" {word}" for word in TASKS[name].words]
    assert found["separator"] == "\n\n"
    written = {"template", "label_words", "separator", *["rows_per_class"] * (name == "hate_speech18")}
    assert {key for key in found if found[key] != plain[key]} <= written
    assert found["rows_per_class"] == (1000 if name == "hate_speech18" else None)


def byte_level(tokenizer: Tokenizer) -> None:
    """As GPT-2's."""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)


def qwen(tokenizer: Tokenizer) -> None:
    """Bytes as well, but text is normalised, digits stand alone, and line breaks join the signs before them."""
    pattern = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def sentencepiece(tokenizer: Tokenizer) -> None:
    """As LLaMA's: blanks are a sign of their own, which the text begins with, too, behind a BOS."""
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
    )


@cache
def tokenizer_of(kind: Callable[[Tokenizer], None]) -> Any:
    """Trained on this project's English and on the tasks' words, which are tokens of real tokenizers, too."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    kind(core)
    words = [f"a {word} b" for task in TASKS.values() for word in task.words[::-1]]
    english = "\n".join(path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
    text = [*english.splitlines(), *words * 20, SENTENCE, PAIR]
    special = ["<unk>", "<s>"]
    alphabet = [] if kind is sentencepiece else pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        text,
        trainers.BpeTrainer(vocab_size=2500, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    if kind is sentencepiece:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core)


@cache
def regimes_of(name: str) -> Any:
    """Those of the preset with replaced words."""
    preset = composed("sweep=nh2_replaced_labels", "model=tiny", f"dataset=sentence_answer/{name}")
    experiment: Any = read_settings(preset).experiment
    return experiment.parsed


@pytest.mark.parametrize("kind", [byte_level, sentencepiece, qwen])
def test_no_two_words_of_a_task_begin_with_the_same_token(kind: Callable[[Tokenizer], None]) -> None:
    for name, task in TASKS.items():
        words = [f" {word}" for word in task.words]
        own = PromptBuilder(tokenizer_of(kind), Template(task.template), words, "\n\n")
        for regime in regimes_of(name):
            found = own.with_words(regime.words(words)).label_tokens
            assert len(set(found)) == len(task.words), (name, regime.name)


@pytest.mark.parametrize("kind", [byte_level, sentencepiece, qwen])
def test_a_task_whose_words_a_tokenizer_cannot_tell_apart_is_refused_by_name(kind: Callable[[Tokenizer], None]) -> None:
    words, limit = (" not equivalent", " not entailment"), ContextLimit(None, "llama-7b")
    with pytest.raises(
        UserError, match=r"mrpc cannot be asked of llama-7b: .*' not equivalent' and ' not entailment' beg"
    ):
        PromptBuilder(tokenizer_of(kind), Template(PAIR), words, "\n\n", limit, "mrpc")
