"""Signs of the template that a tokenizer joins with a text are found, and ways to write it that keep them apart."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from anchorflow.data import Example, Template
from anchorflow.models import toys
from anchorflow.prompts import PromptBuilder, keeping_apart

SHOWN = (Example(0, "It is good.", 1), Example(1, "no stop", 0), Example(2, "so.", 0))
QUERY = Example(3, "what is it.", 0)
LINES = "Review: {text}\nSentiment:{label}"


def joining() -> PreTrainedTokenizerFast:
    """In the manner of Llama 3 and Qwen, whose pattern puts line breaks to the signs in front of them."""
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    corpus = ["Review: good.\nSentiment: Positive\nReview: bad.\nSentiment: Negative!\nso: Zebra"] * 5
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    core.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(tokenizer_object=core)


def builder(template: str, separator: str = "\n") -> PromptBuilder:
    return PromptBuilder(joining(), Template(template), (" Negative", " Positive"), separator)


def test_a_line_break_within_a_token_of_the_text_is_found() -> None:
    build = builder(LINES)
    prompt = build.build(SHOWN, QUERY)
    decoded = [[build.tokenizer.decode([prompt.ids[i]]) for i in d.merged] for d in prompt.demonstrations]
    assert decoded == [[".\n"], [], [".\n"]]
    assert [any(i in d.formatting for i in d.merged) for d in prompt.demonstrations] == [False] * 3
    toy = PromptBuilder(toys.tokenizer(), Template(LINES), (" Negative", " Positive"), "\n")
    assert not any(d.merged for d in toy.build(SHOWN, QUERY).demonstrations)


def test_the_ways_that_are_offered_keep_them_apart() -> None:
    found = keeping_apart(builder(LINES), SHOWN, QUERY)
    assert found[0] == r"""'dataset.template="Review: {text} \nSentiment:{label}"'"""
    assert all(setting.startswith("'dataset.template=") for setting in found)
    assert not any(r"{text}\n" in setting for setting in found)
    # Here it is a separator that joins, and the template has nothing to change.
    before = (Example(0, "\nIt", 1), Example(1, "\nso", 0))
    starts = builder("{text} is{label}", "!")
    assert [len(d.merged) for d in starts.build(before, QUERY).demonstrations] == [0, 1]
    assert r"""'dataset.separator=" | "'""" in keeping_apart(starts, before, QUERY)
