"""Isolation against full prompts with masked scores, one at a time."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from anchorflow.data import Example, Task
from anchorflow.experiments import Isolation
from anchorflow.experiments.isolation import KINDS, Change
from anchorflow.models import Abilities, LanguageModel
from anchorflow.prompts import Prompt
from tests import oracle
from tests.conftest import mapped, toy_work


def isolated(
    lm: LanguageModel, prompt: Prompt, positions: Sequence[int] | Mapping[int, Sequence[int]], layers: range
) -> tuple[list[float], list[int]]:
    """With the same positions in all of these layers, or with each layer's own."""

    def mask(layer: int, scores: Tensor) -> Tensor:
        if layer not in layers:
            return scores
        scores = scores.clone()
        for p in positions[layer] if isinstance(positions, Mapping) else positions:
            scores[:, p, :p] = -torch.inf
        return scores

    logits = oracle.run(lm, prompt.ids, of_scores=mask).logits[-1]
    return torch.softmax(logits[list(prompt.label_tokens)], dim=0).tolist(), logits.topk(5).indices.tolist()


def of_all_layers(experiment: Isolation, prompt: Prompt, lm: LanguageModel, seed: int) -> dict[str, tuple[int, ...]]:
    """The positions of every variant, which are the same in all of its layers."""
    found = {}
    for change in experiment.changes(lm.shape):
        (found[change.name],) = {tuple(experiment.positions(prompt, change, n, seed)) for n in change.layers}
    return found


@pytest.mark.parametrize("shots", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("batch_tokens", [300, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 10_000))])
def test_every_variant_equals_masked_full_prompts(lm: LanguageModel, task: Task, shots: int, batch_tokens: int) -> None:
    experiment = Isolation(n_queries=4, shots_per_class=shots, first_or_last_k=(1, 2, 3), random_draws=2)
    work = toy_work(experiment, lm, task)
    rows = of_all_layers(experiment, work.prompts[0], lm, work.seed)
    n = lm.shape.layers
    for record, prompt in zip(mapped(experiment, lm, work, batch_tokens), work.prompts, strict=True):
        variants = record["variants"]
        assert len(variants) == 1 + 3 * 2 * (1 + 2)
        for name, found in variants.items():
            _, where, k = (*name.split("_"), "", "0")[:3]
            layers = range(int(k)) if where == "first" else range(n - int(k), n)
            probs, top = isolated(lm, prompt, list(rows.get(name, ())), layers)
            assert found["probs"] == pytest.approx(probs, rel=1e-4), name
            assert found["top5"] == top, name


@pytest.mark.parametrize("batch_tokens", [300, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 10_000))])
def test_positions_of_every_query_and_layer_equal_masked_full_prompts(
    lm: LanguageModel, task: Task, batch_tokens: int
) -> None:
    own = (Example(0, "first", 2), Example(1, "second one", 0))  # fewer label words than the other queries have
    rows = tuple(dataclasses.replace(row, demonstrations=own if row.row == 1 else None) for row in task.test[:4])
    experiment = Isolation(n_queries=None, first_or_last_k=(1, 2, 3), control="per_layer", random_draws=2)
    work = toy_work(experiment, lm, dataclasses.replace(task, test=rows))
    n = lm.shape.layers
    for record, prompt in zip(mapped(experiment, lm, work, batch_tokens), work.prompts, strict=True):
        changes = {change.name: change for change in experiment.changes(lm.shape)}
        assert list(record["variants"]) == ["full", *changes]
        for name, found in record["variants"].items():
            kind, where, k, draw = [*("full_first_0" if name == "full" else name).split("_"), "1"][:4]
            layers = range(int(k)) if where == "first" else range(n - int(k), n)
            drawn: Mapping[int, Sequence[int]] = {}
            if change := changes.get(name):
                assert change.draw == (None if kind == "label" else int(draw) - 1)
                drawn = {layer: experiment.positions(prompt, change, layer, work.seed) for layer in layers}
            probs, top = isolated(lm, prompt, prompt.anchors if kind == "label" else drawn, layers)
            assert found["probs"] == pytest.approx(probs, rel=1e-4), name
            assert found["top5"] == top, name


def test_positions_of_a_query_and_layer_may_be_any_but_label_words_and_the_last_two(
    lm: LanguageModel, task: Task
) -> None:
    experiment = Isolation(n_queries=3, shots_per_class=2, control="per_layer")
    prompts = toy_work(experiment, lm, task).prompts
    draws = {
        (p.query, layer, draw, seed): tuple(
            experiment.positions(p, Change("random_first_1", (0,), False, draw), layer, seed)
        )
        for p in prompts
        for layer in range(400)
        for draw in range(2)
        for seed in (42, 43)
    }
    assert len(set(draws.values())) == len(draws)
    for prompt in prompts:
        words = {p for d in prompt.demonstrations for p in d.label_word}
        own = [set(found) for (query, *_), found in draws.items() if query == prompt.query]
        assert all(len(found) == 6 for found in own)
        assert set.union(*own) == set(range(prompt.length - 2)) - words


def test_the_five_most_probable_words_of_the_first_queries_are_kept_as_text(lm: LanguageModel, task: Task) -> None:
    experiment = Isolation(n_queries=4, first_or_last_k=(2,), keep_examples=2)
    work = toy_work(experiment, lm, task)
    for i, record in enumerate(mapped(experiment, lm, work)):
        assert ("words" in record) == (i < 2)
        for name, words in record.get("words", {}).items():
            assert words == [lm.tokenizer.decode([token]) for token in record["variants"][name]["top5"]]
            assert len(words) == 5


def test_random_positions_are_as_many_no_label_words_and_the_same_for_every_k(lm: LanguageModel, task: Task) -> None:
    experiment = Isolation(n_queries=1, shots_per_class=2, first_or_last_k=(1, 3), random_draws=3)
    (prompt,) = toy_work(experiment, lm, task).prompts
    rows = of_all_layers(experiment, prompt, lm, 42)
    words = {p for d in prompt.demonstrations for p in d.label_word}
    draws = [tuple(rows[name]) for name in ("random_first_1", "random_first_1_2", "random_first_1_3")]
    assert len(set(draws)) == 3
    for draw in draws:
        assert len(set(draw)) == len(prompt.anchors)
        assert not set(draw) & words
        assert max(draw) < len(prompt.context)
    assert rows["random_first_1_2"] == rows["random_last_3_2"]
    assert rows["label_last_3"] == prompt.anchors
    assert of_all_layers(experiment, prompt, lm, 43)["random_first_1"] != rows["random_first_1"]


def test_isolating_nothing_changes_nothing(lm: LanguageModel, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = Isolation(n_queries=4, first_or_last_k=(2,))
    work = toy_work(experiment, lm, task)
    monkeypatch.setattr(Isolation, "positions", lambda *_: ())
    records = mapped(experiment, lm, work)
    result = experiment.reduce(records, task.labels)
    for kind in KINDS:
        assert result.metrics[f"{kind}_2/label_loyalty"] == result.metrics[f"{kind}_2/word_loyalty"] == 1
    for record in records:
        for variant in record["variants"].values():
            assert variant["probs"] == pytest.approx(record["variants"]["full"]["probs"], rel=1e-4)


@pytest.mark.parametrize("control", ["per_seed", "per_layer"])
def test_a_model_that_is_read_whole_has_the_same_numbers(lm: LanguageModel, task: Task, control: Any) -> None:
    experiment = Isolation(n_queries=4, first_or_last_k=(1, 2), control=control)
    work = toy_work(experiment, lm, task)
    whole = dataclasses.replace(lm, can=Abilities(dict.fromkeys(["context", "halfway", "padding", "cut"], "")))
    for one, other in zip(mapped(experiment, lm, work), mapped(experiment, whole, work), strict=True):
        for name, variant in one["variants"].items():
            assert other["variants"][name]["probs"] == pytest.approx(variant["probs"], abs=1e-6)


def test_rows_with_their_own_demonstrations_are_isolated_in_these(lm: LanguageModel, task: Task) -> None:
    own = (Example(0, "first", 2), Example(1, "second one", 0))
    rows = tuple(dataclasses.replace(row, demonstrations=own if row.row == 1 else None) for row in task.test[:3])
    experiment = Isolation(n_queries=None, first_or_last_k=(2,))
    work = toy_work(experiment, lm, dataclasses.replace(task, test=rows))
    for record, prompt in zip(mapped(experiment, lm, work), work.prompts, strict=True):
        probs, _ = isolated(lm, prompt, list(prompt.anchors), range(2))
        assert record["variants"]["label_first_2"]["probs"] == pytest.approx(probs, rel=1e-4)


def variant(best: int, *top: int) -> dict[str, list[float]]:
    return {"probs": [float(best == 0), float(best == 1)], "top5": list(top)}


def test_loyalties_by_hand_a_random_control_is_the_mean_of_its_draws() -> None:
    full = variant(0, 1, 2, 3, 4, 5)
    away = variant(1, 1, 2, 3, 6, 7)  # 3 of 7 words in common
    fine = {name: full for kind in KINDS for name in (f"{kind}_1", f"{kind}_3", f"{kind}_1_2", f"{kind}_3_2")}
    records = [
        {"query": 0, "label": 0, "variants": {"full": full, **fine, "label_first_1": away, "random_last_3_2": away}},
        {"query": 1, "label": 1, "variants": {"full": full, **fine}},
    ]
    result = Isolation(first_or_last_k=(3, 1), random_draws=2).reduce(records, ["a", "b"])
    assert result.metrics["label_first_1/label_loyalty"] == 0.5
    assert result.metrics["label_first_1/word_loyalty"] == pytest.approx((3 / 7 + 1) / 2)
    assert result.metrics["label_first_1/accuracy"] == 0.0
    assert result.metrics["random_last_3/label_loyalty"] == 0.75
    # Over the queries' means 0.5 and 1 half of Wilson's interval, and 0.25 over the draws' means 1 and 0.5.
    over_queries = math.sqrt(1 / 16 / 2 + 1 / 16) / 1.5
    assert result.stderr["random_last_3/label_loyalty"] == pytest.approx(math.hypot(over_queries, 0.25))
    assert [note[:17] for note in result.notes] == ["control=per_seed:"]
    assert "were drawn once" in Isolation(first_or_last_k=(3, 1)).reduce(records, ["a", "b"]).notes[1]
    # Where every query has its own positions, the error over queries holds that of the draw.
    anew = Isolation(first_or_last_k=(3, 1), random_draws=2, control="per_layer").reduce(records, ["a", "b"])
    assert anew.metrics["random_last_3/label_loyalty"] == 0.75
    assert anew.stderr["random_last_3/label_loyalty"] == pytest.approx(over_queries)
    assert [note[:18] for note in anew.notes] == ["control=per_layer:"]
    curve = result.curves["label_first/label_loyalty"]
    assert (curve.x, list(curve.at), list(curve.values)) == ("k", [1, 3], [0.5, 1.0])
    assert result.metrics["accuracy"] == 0.5
