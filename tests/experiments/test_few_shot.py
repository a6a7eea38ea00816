"""Records to results, by hand; queries and demonstrations as the protocol says; skipping and batching."""

import dataclasses
import math

import pytest

from anchorflow.data import Example, Task
from anchorflow.experiments import Classification, Saliency
from anchorflow.models import LanguageModel
from anchorflow.prompts import PromptBuilder
from anchorflow.report.figures import draw
from anchorflow.report.view import view_of
from anchorflow.scoring import plan
from tests.conftest import mapped, toy_prompts


def record(query: int, label: int, probs: list[float], **more: object) -> dict[str, object]:
    return {"query": query, "label": label, "variants": {"full": {"probs": probs, "top5": [1, 2, 3, 4, 5]}}, **more}


def test_saliency_shares_are_taken_after_the_mean() -> None:
    records = [
        record(0, 0, [0.9, 0.1], S_wp=[1.0, 0.0], S_pq=[1.0, 4.0], S_ww=[0.0, 0.0]),
        record(1, 1, [0.9, 0.1], S_wp=[5.0, 0.0], S_pq=[1.0, 2.0], S_ww=[2.0, 0.0]),
    ]
    result = Saliency().reduce(records, ["a", "b"])
    assert list(result.curves["S_wp"].at) == [1, 2]
    assert list(result.curves["S_wp"].values) == [3.0, 0.0]
    assert list(result.curves["S_wp_share"].values) == [0.6, 0.0]
    assert list(result.curves["S_pq_share"].values) == [0.2, 1.0]
    assert result.curves["S_wp"].stderr is not None
    assert result.curves["S_wp"].stderr[0] == pytest.approx(2.0)  # sd 2√2 over √2
    assert result.metrics["accuracy"] == 0.5


def test_classification_by_hand_and_its_figures_are_drawn() -> None:
    records = [record(0, 0, [0.9, 0.1]), record(1, 0, [0.2, 0.8]), record(2, 1, [0.3, 0.7])]
    result = Classification().reduce(records, ["bad", "good"])
    assert result.metrics["accuracy"] == pytest.approx(2 / 3)
    assert [list(row) for row in result.tables["confusion"].values] == [[0.5, 0.5], [0.0, 1.0]]
    drawn = draw(view_of("classification"), result, "title")
    assert set(drawn) == {"confusion", "reliability"}
    assert drawn["confusion"].axes[0].get_xlabel() == "predicted"


def test_one_query_has_no_standard_error_and_still_a_result() -> None:
    result = Saliency().reduce([record(0, 0, [1.0, 0.0], S_wp=[0.0], S_pq=[0.0], S_ww=[0.0])], ["a", "b"])
    assert math.isnan(result.curves["S_wp_share"].values[0])
    draw(view_of("saliency"), result, "an empty layer")


def test_saliency_draws_demonstrations_for_every_query_classification_once_per_seed(
    lm: LanguageModel, task: Task
) -> None:
    builder = PromptBuilder(lm.tokenizer, task.template, task.label_words, task.separator)

    def contexts(experiment: Saliency | Classification, seed: int = 42) -> list[str]:
        found = experiment.prepare(task, builder, seed).prompts
        assert all(sorted(d.label for d in p.demonstrations) == [0, 0, 1, 1, 2, 2] for p in found)
        return [p.text[: p.text.rindex("Question")] for p in found]

    saliency = contexts(Saliency(n_queries=8, shots_per_class=2))
    assert len(set(saliency)) == 8
    assert saliency == contexts(Saliency(n_queries=8, shots_per_class=2))
    once = contexts(Classification(n_queries=8, shots_per_class=2))
    assert len(set(once)) == 1
    assert once != contexts(Classification(n_queries=8, shots_per_class=2), seed=43)


def test_a_query_keeps_its_demonstrations_whatever_else_is_asked(lm: LanguageModel, task: Task) -> None:
    builder = PromptBuilder(lm.tokenizer, task.template, task.label_words, task.separator)
    few = {p.query: p.ids for p in Saliency(n_queries=4).prepare(task, builder, 42).prompts}
    many = {p.query: p.ids for p in Saliency(n_queries=None).prepare(task, builder, 42).prompts}
    assert all(many[query] == ids for query, ids in few.items())


def test_a_row_with_its_own_demonstrations_gets_these_in_their_order(lm: LanguageModel, task: Task) -> None:
    own = (Example(0, "first", 2), Example(1, "second", 2), Example(2, "third", 0))
    rows = (dataclasses.replace(task.test[0], demonstrations=own), task.test[1])
    with_own = dataclasses.replace(task, test=rows)
    builder = PromptBuilder(lm.tokenizer, task.template, task.label_words, task.separator)
    prompts = Classification(n_queries=None).prepare(with_own, builder, 42).prompts
    assert [d.label for d in prompts[0].demonstrations] == [2, 2, 0]
    assert prompts[0].text.index("first") < prompts[0].text.index("second") < prompts[0].text.index("third")
    assert len(prompts[1].demonstrations) == 3


def test_probabilities_are_the_models_own_at_every_batch_size(lm: LanguageModel, task: Task) -> None:
    import torch

    prompts = toy_prompts(lm, task)
    expected = {}
    for p in prompts:
        logits = lm.model(input_ids=torch.tensor([p.ids])).logits[0, -1]
        probs = torch.softmax(logits[list(p.label_tokens)], dim=0)
        expected[p.query] = (probs.tolist(), logits.topk(5).indices.tolist())
    for batch_tokens in (1, 300, 10_000):
        for r in mapped(Classification(), lm, prompts, batch_tokens):
            probs, top = expected[r["query"]]
            assert r["variants"]["full"]["probs"] == pytest.approx(probs, rel=1e-6)
            assert r["variants"]["full"]["top5"] == top


def test_batches_keep_to_the_budget_and_hold_every_prompt_once(lm: LanguageModel, task: Task) -> None:
    prompts = toy_prompts(lm, task, queries=12)
    for budget in (1, 200, 400, 10_000):
        batches = plan(prompts, budget)
        assert sorted(p.query for b in batches for p in b) == list(range(12))
        assert all(len(b) == 1 or len(b) * max(len(p.ids) for p in b) <= budget for b in batches)
        assert plan(list(reversed(prompts)), budget) == batches
