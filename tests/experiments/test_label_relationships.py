"""Curves from one pass against a prompt for every number of examples; a model whose curves are known by hand."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy import stats
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn

from anchorflow.data import Example, Task, Template
from anchorflow.errors import UserError
from anchorflow.experiments import LabelRelationships
from anchorflow.experiments.repetitions import Instruction, Repetitions, instruct
from anchorflow.models import LanguageModel, Tiny, toys
from anchorflow.models.abilities import Abilities
from anchorflow.prompts import ContextLimit, PromptBuilder
from anchorflow.results import Record
from tests import oracle
from tests.conftest import FAMILIES

ALL: tuple[str | dict[str, Any], ...] = (
    *("default", "random", "flipped", {"noise": 0.25}, {"flip_after": 3}, {"default_after": 3}, {"alternating": 1}),
    *({"replaced": ["A", "B", "sea"]}, {"replaced": ["B", "A", "sea"]}, {"constant": "Number"}),
    *({"random": 0.5}, {"random_until": 3}, "shuffled", "predicted"),
)


def builder_of(lm: LanguageModel, task: Task, limit: int | None = None) -> PromptBuilder:
    limited = ContextLimit(limit or lm.max_length, lm.name)
    return PromptBuilder(lm.tokenizer, task.template, task.label_words, task.separator, limited, task.name)


def worked(experiment: LabelRelationships, lm: LanguageModel, task: Task, limit: int | None = None) -> Repetitions:
    return experiment.prepare(task, builder_of(lm, task, limit), 42)


def mapped(
    experiment: LabelRelationships, lm: LanguageModel, work: Repetitions, batch_tokens: int = 1024
) -> list[Record]:
    batches = experiment.plan(work.units, batch_tokens)
    found = {r["repetition"]: r for rs in experiment.map(lm, work, batches, Path(), batch_tokens) for r in rs}
    return [found[unit.repetition] for unit in work.units]


def with_bos(family: str) -> LanguageModel:
    lm = Tiny(family=family, layers=2).load("cpu", "float64")  # type: ignore[arg-type]
    core = lm.tokenizer.backend_tokenizer
    core.post_processor = TemplateProcessing(single="Ġ $A", special_tokens=[("Ġ", core.token_to_id("Ġ"))])
    assert lm.tokenizer("x")["input_ids"][0] == core.token_to_id("Ġ")
    return lm


def check_against_cut_prompts(lm: LanguageModel, task: Task, batch_tokens: int, n: int = 8) -> None:
    """Every position of every regime equals a prompt of its own that ends right before that label."""
    experiment = LabelRelationships(regimes=ALL, n_demonstrations=n, repetitions=2, instruction="classify")
    work = worked(experiment, lm, task)
    for record in mapped(experiment, lm, work, batch_tokens):
        examples = [task.train[row] for row in record["examples"]]
        for regime in experiment.parsed:
            found = record["regimes"][regime.name]
            assert len(found["shown"]) == len(found["log_probabilities"]) == n
            words = regime.words(task.label_words)
            line = instruct("classify", task.name, [word.strip() for word in words])
            for i in range(n):
                text = line
                for example, word in zip(examples[:i], found["shown"], strict=False):
                    text += f"{task.separator}Question: {example.text}\nAnswer Type: {word}"
                text += f"{task.separator}Question: {examples[i].text}\nAnswer Type:"
                logits = oracle.run(lm, lm.tokenizer(text)["input_ids"]).logits[-1]
                tokens = [lm.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
                expected = torch.log_softmax(logits[tokens], dim=0).tolist()
                assert found["log_probabilities"][i] == pytest.approx(expected, abs=1e-5), (regime.name, i)


@pytest.mark.parametrize("batch_tokens", [1500, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 100_000))])
def test_one_pass_gives_what_prompts_cut_before_each_label_give(
    lm: LanguageModel, task: Task, batch_tokens: int
) -> None:
    check_against_cut_prompts(lm, task, batch_tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_so_it_does_behind_a_first_token_of_the_tokenizer_s_own(family: str, task: Task) -> None:
    check_against_cut_prompts(with_bos(family), task, 1500, n=5)


def test_prompts_are_those_of_the_other_experiments(lm: LanguageModel, task: Task) -> None:
    """With true labels, a series cut before a label is the prompt of that example after the others."""
    (unit,) = worked(LabelRelationships(regimes=("default",), n_demonstrations=6, repetitions=1), lm, task).units
    examples = [task.train[row] for row in unit.examples]
    for i, target in enumerate(unit.series["default"].targets):
        alone = builder_of(lm, task).build(examples[:i], examples[i])
        assert tuple(unit.series["default"].ids[: target + 1]) == alone.ids
        assert unit.series["default"].label_tokens == alone.label_tokens


class Counting(nn.Module):
    """A language model that copies labels: a word's logit is how often it has been seen."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, words, _weight=torch.eye(words, dtype=torch.float64))
        self.head = nn.Linear(words, words, bias=False, dtype=torch.float64)
        self.head.weight.data = torch.eye(words, dtype=torch.float64)
        self.config = SimpleNamespace(get_text_config=SimpleNamespace)  # without a limit on the context
        self.passes: list[tuple[int, ...]] = []
        self.logits: list[tuple[int, ...]] = []

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        self.passes.append(tuple(input_ids.shape))
        logits = self.head(self.embedding(input_ids).cumsum(dim=1))
        self.logits.append(tuple(logits.shape))
        return SimpleNamespace(logits=logits)


@pytest.fixture
def counting() -> LanguageModel:
    tokenizer = toys.tokenizer()
    model: Any = Counting(len(tokenizer))
    return LanguageModel("counting", model, tokenizer, can=Abilities({"context": "it has no cache"}))


@pytest.fixture
def pairs() -> Task:
    """Two classes, one twice as frequent as the other."""
    rows = tuple(Example(10 + i, f"x{i}", int(i % 3 > 0), f"y{i}") for i in range(60))
    template = Template("Sentence: '{text}' / '{text_pair}' \nAnswer:{label}")
    words = (" bad", " good")
    return Task(name="pairs", template=template, separator="\n\n", label_words=words, train=rows, test=rows[:2])


BOTH: tuple[str | dict[str, Any], ...] = (
    *("default", "random", "flipped", {"noise": 0.5}, {"flip_after": 4}, {"default_after": 4}, {"alternating": 2}),
    *({"replaced": ["A", "B"]}, {"replaced": ["B", "A"]}, {"constant": "Number"}),
    *({"random": 0.5}, {"random_until": 4}, "shuffled", "predicted"),
)


def test_curves_of_a_model_that_counts_labels_are_those_computed_by_hand(counting: LanguageModel, pairs: Task) -> None:
    n = 11
    experiment = LabelRelationships(regimes=BOTH, n_demonstrations=n, repetitions=5)
    found = mapped(experiment, counting, worked(experiment, counting, pairs))
    result = experiment.reduce(found, pairs.labels)
    by_hand: dict[str, list[list[list[float]]]] = {regime.name: [] for regime in experiment.parsed}
    for record in found:
        truth = record["labels"]
        for regime in experiment.parsed:
            shown = record["regimes"][regime.name]["shown"]
            words = [word.strip() for word in regime.words(pairs.label_words)]
            if regime.kind == "flipped":
                assert shown == [words[1 - y] for y in truth]
            counts = [[shown[:i].count(word) for word in words] for i in range(n)]
            if regime.kind == "shuffled":
                assert shown[1:] == [words[y] for y in truth[:-1]]
            if regime.kind == "random_until":
                assert shown[4:] == [words[y] for y in truth[4:]]
            if regime.kind == "predicted":
                assert shown == [words[0]] * n  # it predicts the first, and then what it has seen more often
            if regime.kind == "constant":
                assert counts == [[0, 0]] * n
            rows = []
            for (a, b), y in zip(counts, truth, strict=True):
                p = [1 / (1 + math.exp(b - a)), 1 / (1 + math.exp(a - b))]
                entropy = -sum(q * math.log(q) for q in p)
                rows.append([float((0 if a >= b else 1) == y), math.log(p[y]), entropy, math.log(p[1 - y])])
            by_hand[regime.name].append(rows)
    for name, values in by_hand.items():
        for m, measure in enumerate(("accuracy", "log_likelihood", "entropy", "flipped_log_likelihood")):
            key = f"{name}/{measure}"
            if key not in result.curves:
                assert measure.startswith("flipped")
                assert not name.startswith(("flip", "default_after", "alternating"))
                continue
            of_measure = np.array(values)[:, :, m]
            curve = result.curves[key]
            assert (curve.x, list(curve.at)) == ("n_demonstrations", list(range(n)))
            assert curve.values == pytest.approx(of_measure.mean(axis=0).tolist(), abs=1e-9)
            errors = stats.sem(of_measure, axis=0)
            if measure == "accuracy":  # of a share: half of Wilson's interval at one standard error
                share, count = of_measure.mean(axis=0), len(of_measure)
                errors = np.sqrt(share * (1 - share) / count + 1 / (4 * count**2)) / (1 + 1 / count)
            assert curve.stderr == pytest.approx(errors.tolist(), abs=1e-9)
            assert result.metrics[f"{key}_at_max"] == pytest.approx(of_measure[:, -1].mean())
    assert result.metrics["guessing/accuracy"] == pytest.approx(2 / 3)
    guess = 2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)
    assert result.metrics["guessing/log_likelihood"] == pytest.approx(guess)
    # What it predicts depends on the words' order in no way, and of every label as many were shown after 8.
    assert result.metrics["replaced_A_B_minus_replaced_B_A"] == pytest.approx(0, abs=1e-12)
    assert result.metrics["default_minus_replaced_A_B"] == pytest.approx(0, abs=1e-12)
    difference = np.array(by_hand["default"])[:, -1, 1] - np.array(by_hand["random"])[:, -1, 1]
    assert result.metrics["default_minus_random"] == pytest.approx(difference.mean())
    test = stats.ttest_1samp(difference, 0)
    assert result.metrics["default_minus_random_p"] == pytest.approx(test.pvalue)
    rows = dict(zip(result.tables["differences"].rows, result.tables["differences"].values, strict=True))
    assert list(rows["default_minus_random"])[1:3] == pytest.approx(list(test.confidence_interval()))
    for pair in (("flip_after_4", "default_after_4"), ("flip_after_4", "alternating_2")):
        a, b = (np.array(by_hand[name])[:, 8, 1] for name in pair)
        assert result.metrics[f"{pair[0]}_minus_{pair[1]}_at_8"] == pytest.approx((a - b).mean())


def test_logits_are_computed_at_the_labels_alone_of_the_label_words_alone(counting: LanguageModel, pairs: Task) -> None:
    regimes = ("default", {"replaced": ["A", "B"]}, "flipped")
    experiment = LabelRelationships(regimes=regimes, n_demonstrations=7, repetitions=4)
    work = worked(experiment, counting, pairs)
    model: Any = counting.model
    mapped(experiment, counting, work, batch_tokens=100_000)
    assert [shape[0] for shape in model.passes] == [12]
    assert model.logits == [(12, 7, 4)]
    model.passes.clear()
    longest = max(unit.length for unit in work.units)
    mapped(experiment, counting, work, batch_tokens=2 * longest)
    assert sum(rows for rows, _ in model.passes) == 12
    assert all(rows * tokens <= 2 * longest for rows, tokens in model.passes)
    assert len(model.passes) == 8  # the three regimes of a repetition take two passes
    assert all(tokens <= longest for _, tokens in model.passes)


def test_without_a_limit_as_many_as_fit_is_no_number(counting: LanguageModel, pairs: Task) -> None:
    with pytest.raises(UserError, match="this model's context has no limit; give a number"):
        worked(LabelRelationships(n_demonstrations=None), counting, pairs)


def test_repetitions_are_paired_drawn_without_balance_and_prefixes_of_longer_ones(
    lm: LanguageModel, task: Task
) -> None:
    regimes = ("default", "random", {"noise": 0.5})
    long = worked(LabelRelationships(regimes=regimes, n_demonstrations=12, repetitions=3), lm, task).units
    short = worked(LabelRelationships(regimes=regimes, n_demonstrations=5, repetitions=2), lm, task).units
    assert [unit.first(5) for unit in long[:2]] == list(short)
    assert len({unit.examples for unit in long}) == 3
    assert all(len(set(unit.examples)) == 12 for unit in long)
    shifted = LabelRelationships(regimes=regimes, n_demonstrations=5, repetitions=1)
    (second,) = shifted.prepare(task, builder_of(lm, task), 43).units  # repetition r has the seed base + r
    assert dataclasses.replace(second, repetition=1) == short[1]
    alone = worked(LabelRelationships(regimes=("random",), n_demonstrations=5, repetitions=1), lm, task).units
    assert alone[0].shown["random"] == short[0].shown["random"]


def test_the_papers_draws_are_independent_and_prefixes_of_longer_ones(lm: LanguageModel, task: Task) -> None:
    regimes = ("default",)
    long, short = (
        worked(
            LabelRelationships(regimes=regimes, n_demonstrations=n, repetitions=2, draw="with_replacement"), lm, task
        )
        for n in (40, 12)
    )
    assert [unit.first(12) for unit in long.units] == list(short.units)
    for unit in long.units:  # 40 of 30 examples
        assert len(set(unit.examples)) < 30
        assert unit.labels == tuple(task.train[row].label for row in unit.examples)
    fewer = LabelRelationships(regimes=regimes, repetitions=2, draw="with_replacement", n_demonstrations=None)
    assert len(worked(fewer, lm, task, 5000).units[0].examples) > 30


@pytest.mark.parametrize("limit", [100, 250, 400])
def test_as_many_as_fit_is_the_largest_number_for_all_repetitions(lm: LanguageModel, task: Task, limit: int) -> None:
    regimes: Sequence[Any] = ("default", {"replaced": ["sea", "Number", "different"]}, "random")
    fitting = worked(
        LabelRelationships(regimes=tuple(regimes), repetitions=4, n_demonstrations=None), lm, task, limit
    ).units
    (n,) = {len(unit.examples) for unit in fitting}
    assert max(unit.length for unit in fitting) <= limit
    one_more = LabelRelationships(regimes=tuple(regimes), repetitions=4, n_demonstrations=n + 1)
    assert max(unit.length for unit in worked(one_more, lm, task).units) > limit
    as_given = LabelRelationships(regimes=tuple(regimes), repetitions=4, n_demonstrations=n)
    assert worked(as_given, lm, task).units == fitting


def test_as_many_as_fit_but_no_more_than_asked_for(lm: LanguageModel, task: Task) -> None:
    asked = worked(LabelRelationships(repetitions=2, n_demonstrations=None, at_most=3), lm, task, 100_000).units
    assert asked == worked(LabelRelationships(repetitions=2, n_demonstrations=3), lm, task).units
    assert worked(LabelRelationships(repetitions=2, n_demonstrations=None, at_most=3), lm, task, None).units == asked


def test_certain_noise_of_two_classes_is_tested_as_flipped_labels_are() -> None:
    experiment = LabelRelationships(regimes=("default", {"noise": 1}))
    of_two, of_three = ({c.name: c for c in experiment.comparisons(5, classes)} for classes in (2, 3))
    assert of_two["default_minus_noise_1"].second == ("noise_1", "flipped_log_likelihood")
    assert of_three["default_minus_noise_1"].second == ("noise_1", "log_likelihood")
    assert of_two.keys() - of_three.keys() == {"default_minus_noise_1_entropy"}


def test_the_whole_train_split_may_fit(lm: LanguageModel, task: Task) -> None:
    (unit,) = worked(LabelRelationships(repetitions=1, n_demonstrations=None), lm, task, 100_000).units
    assert sorted(unit.examples) == list(range(30))


def test_instructions_name_the_words_in_force() -> None:
    words = ["negative", "neutral", "positive"]
    assert instruct("none", "sst2", words) == ""
    assert "classify each example of sst2 as 'negative', 'neutral' or 'positive'" in instruct("classify", "sst2", words)
    assert "ignore all prior knowledge" in instruct("ignore", "sst2", words)
    assert "flip the meaning of all answers" in instruct("invert", "sst2", words)
    # The flipped regime writes the next class's word: so 'neutral' stands for negative.
    expected = (
        "In the following, 'negative' means 'positive', 'neutral' means 'negative' and 'positive' means 'neutral'."
    )
    assert instruct("instruct", "sst2", words) == expected
    two = "In the following, 'negative' means 'positive' and 'positive' means 'negative'."
    assert instruct("instruct", "sst2", ["negative", "positive"]) == two
    assert len({instruct(one, "sst2", words) for one in get_args(Instruction)}) == 5


def test_an_instruction_stands_before_the_examples(lm: LanguageModel, task: Task) -> None:
    regimes = ("default", {"replaced": ["A", "B", "sea"]})
    experiment = LabelRelationships(regimes=regimes, n_demonstrations=2, repetitions=1, instruction="instruct")
    (unit,) = worked(experiment, lm, task).units
    for name, word in (("default", "'Person' means 'Zebra'"), ("replaced_A_B_sea", "'A' means 'sea'")):
        text = lm.tokenizer.decode(unit.series[name].ids)
        assert text.startswith(f"In the following, {word}")
        assert text.count("In the following") == 1
        assert ".\nQuestion: " in text


def test_calibration_takes_the_prior_of_texts_without_content_away(lm: LanguageModel, task: Task) -> None:
    regimes = ("default", {"replaced": ["A", "B", "sea"]})
    plain = LabelRelationships(regimes=regimes, n_demonstrations=4, repetitions=2)
    calibrated = dataclasses.replace(plain, calibrate=True)
    raw = mapped(plain, lm, worked(plain, lm, task))
    found = mapped(calibrated, lm, worked(calibrated, lm, task))
    for regime in plain.parsed:
        words = regime.words(task.label_words)
        tokens = [lm.tokenizer(word)["input_ids"][0] for word in words]
        priors = []
        for text in ("N/A", "[MASK]", ""):
            prompt = f"Question: {text}\nAnswer Type:" if text else "Question:\nAnswer Type:"
            logits = oracle.run(lm, lm.tokenizer(prompt)["input_ids"]).logits[-1]
            priors.append(torch.log_softmax(logits[tokens], dim=0))
        prior = torch.stack(priors).mean(dim=0)
        for a, b in zip(raw, found, strict=True):
            scores = torch.tensor(a["regimes"][regime.name]["log_probabilities"], dtype=torch.float64) - prior
            expected = torch.log_softmax(scores, dim=-1)
            given = torch.tensor(b["regimes"][regime.name]["log_probabilities"], dtype=torch.float64)
            torch.testing.assert_close(given, expected, atol=1e-5, rtol=0)
