"""Positions are right for every kind of tokenizer: what lies at them, decoded, is what they claim."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from anchorflow.data import Example, Task, Template
from anchorflow.errors import UserError
from anchorflow.models import toys
from anchorflow.prompts import Prompt, PromptBuilder

CORPUS = [
    "Review: a good movie\nSentiment: Positive Negative\nReview: a bad movie!\nSentiment: Negative",
    "Question: who is it\nAnswer Type: Person Location Abbreviation 'quoted'",
] * 5


def metaspace(bos: bool, prepend: str = "first") -> PreTrainedTokenizerFast:
    """A tokenizer of sentencepiece's manner: ▁ for blanks, one in front of the text, perhaps a BOS."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")] if prepend == "normalizer" else [normalizers.NFC()]
    )
    # As in sentencepiece's models, a line break is never part of a longer token.
    scheme: Any = "never" if prepend == "never" else "first"
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", *[f"<0x{i:02X}>" for i in range(256)]]
    core.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    if prepend == "normalizer":
        core.pre_tokenizer = None  # type: ignore[assignment]
    if bos:
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", unk_token="<unk>")


def byte_level(trim: bool = False, bos: bool = False) -> PreTrainedTokenizerFast:
    """GPT-2's manner, trained, with merges across words where no pattern splits; offsets may be trimmed of blanks."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=500,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<s>"],
            show_progress=False,
        ),
    )
    steps: list[Any] = [processors.ByteLevel(trim_offsets=trim)]
    if bos:
        steps.append(processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)]))
    core.post_processor = processors.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")


TOKENIZERS = {
    "toy": toys.tokenizer,
    "byte level": byte_level,
    "byte level, trimmed offsets": lambda: byte_level(trim=True),
    "byte level, BOS": lambda: byte_level(bos=True),
    "sentencepiece, prefix space": lambda: metaspace(bos=False),
    "sentencepiece, BOS": lambda: metaspace(bos=True),
    "sentencepiece, no prefix space": lambda: metaspace(bos=False, prepend="never"),
    "sentencepiece, LLaMA's normalizer": lambda: metaspace(bos=True, prepend="normalizer"),
}
DEMONSTRATIONS = [
    Example(0, "a good movie", 1),
    Example(1, "naïve 日本語 😀 {label}!", 0),
    Example(2, "  tabs\tand\n\nlines ...", 1),
]
QUERY = Example(7, "Sentiment: Positive, they said", 0)


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


def sentiment(
    tokenizer: Any, separator: str = "\n", words: tuple[str, ...] = (" Negative", " Positive")
) -> PromptBuilder:
    return PromptBuilder(tokenizer, Template("Review: {text}\nSentiment:{label}"), words, separator)


def said(tokenizer: Any, prompt: Prompt, positions: Any) -> str:
    """The characters behind tokens, without blanks (which tokenizers move about)."""
    text = tokenizer.decode([prompt.ids[i] for i in positions], clean_up_tokenization_spaces=False)
    return "".join(text.split()).replace("▁", "")


def test_every_position_is_what_it_claims(tokenizer: Any) -> None:
    prompt = sentiment(tokenizer).build(DEMONSTRATIONS, QUERY)
    words = ["Negative", "Positive"]
    for demonstration, example in zip(prompt.demonstrations, DEMONSTRATIONS, strict=True):
        assert demonstration.label == example.label
        assert said(tokenizer, prompt, demonstration.label_word) == words[example.label]
        assert demonstration.anchor == demonstration.label_word[0]
        assert prompt.ids[demonstration.anchor] == prompt.label_tokens[example.label]
        assert said(tokenizer, prompt, demonstration.formatting) == "Review:Sentiment:"
        inside = range(demonstration.start, demonstration.stop)
        text = [i for i in inside if i not in demonstration.formatting and i not in demonstration.label_word]
        assert said(tokenizer, prompt, text) == "".join(example.text.split())
    assert prompt.text.endswith("they said\nSentiment:")
    assert said(tokenizer, prompt, [prompt.target]).endswith(":")
    assert prompt.demonstrations[0].stop == prompt.demonstrations[1].start
    assert (prompt.query, prompt.label) == (7, 0)


def test_the_tokens_are_those_of_the_whole_text_at_once_and_the_answer_does_not_leak(tokenizer: Any) -> None:
    builder = sentiment(tokenizer)
    prompt = builder.build(DEMONSTRATIONS, QUERY)
    other = builder.build(DEMONSTRATIONS, Example(7, QUERY.text, 1))
    assert prompt.ids == other.ids
    whole = tokenizer(prompt.text + " Positive")["input_ids"]
    assert tuple(whole[: len(prompt.ids)]) == prompt.ids
    assert whole[len(prompt.ids)] == prompt.label_tokens[1]


def test_the_pieces_are_the_text_token_by_token(tokenizer: Any) -> None:
    builder = sentiment(tokenizer)
    prompt, pieces = builder.build(DEMONSTRATIONS, QUERY), builder.pieces(DEMONSTRATIONS, QUERY)
    assert len(pieces) == len(prompt.ids)
    assert "".join(pieces).removeprefix("<s>") == prompt.text
    first = prompt.demonstrations[0]
    assert "".join(pieces[i] for i in first.label_word).strip() == "Positive"
    assert [piece for piece in pieces if "😀" in piece], "a character of several tokens is shown once, whole"


def test_without_demonstrations_there_are_no_anchors(tokenizer: Any) -> None:
    prompt = sentiment(tokenizer).build([], QUERY)
    assert prompt.anchors == ()
    assert prompt.target == len(prompt.ids) - 1


def test_a_blank_in_front_of_the_label_belongs_to_its_token() -> None:
    """The second paper's template ends in a blank, which byte-level tokenizers join with the label word."""
    tokenizer = byte_level()
    builder = PromptBuilder(tokenizer, Template("Review: {text}\nSentiment: {label}"), ("Negative", "Positive"), "\n\n")
    prompt = builder.build(DEMONSTRATIONS, QUERY)
    assert prompt.label_tokens == sentiment(tokenizer).label_tokens
    assert said(tokenizer, prompt, [prompt.target]) == ":"
    assert prompt.text.endswith(":")


def test_a_label_word_of_several_tokens_counts_by_its_first(task: Task) -> None:
    tokenizer = toys.tokenizer()
    builder = PromptBuilder(tokenizer, task.template, task.label_words, task.separator)
    prompt = builder.build(task.train[:3], task.test[0])
    zebra = prompt.demonstrations[2]
    assert len(zebra.label_word) > 1
    assert zebra.anchor == zebra.label_word[0]
    assert prompt.ids[zebra.anchor] == builder.label_tokens[2]
    assert not set(zebra.label_word) & set(zebra.formatting)


def test_two_label_words_that_begin_alike_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"' Zebra' and ' Zoo' begin with the same token 'ĠZ'"):
        sentiment(toys.tokenizer(), words=(" Zebra", " Zoo"))


def test_a_label_word_that_cannot_be_told_from_the_template_is_refused() -> None:
    """Here ':P' is one token: the sign in front of the label changes with the label."""
    tokenizer = toys.tokenizer()
    tokenizer.add_tokens([":Pos"])
    with pytest.raises(UserError, match="joins the end of the template"):
        PromptBuilder(tokenizer, Template("Review: {text}\nSentiment:{label}"), ("Neg", "Pos"), "\n")


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="Slow does not give character offsets"):
        sentiment(Slow())


def test_a_token_that_begins_with_the_separator_belongs_to_the_text_it_goes_on_with() -> None:
    tokenizer = byte_level()
    template = Template("{text}\nSentiment:{label}")
    shown = [Example(0, "good movie", 0), Example(1, "bad movie", 1)]
    prompt = PromptBuilder(tokenizer, template, (" Negative", " Positive"), " ").build(shown, Example(5, "movie", 0))
    for demonstration, end in zip(prompt.demonstrations, ("Negative", "Positive"), strict=True):
        assert tokenizer.decode(prompt.ids[demonstration.start : demonstration.stop]).rstrip().endswith(end)
        formatting = tokenizer.decode([prompt.ids[i] for i in demonstration.formatting])
        assert not any(word in formatting for word in ("good", "bad", "mov"))
