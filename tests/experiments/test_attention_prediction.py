"""Label attention against whole maps, and the area under ROC by hand."""

import math

import numpy as np
import pytest

from anchorflow.data import Task
from anchorflow.experiments import AttentionPrediction
from anchorflow.models import LanguageModel
from anchorflow.results import metrics
from tests import oracle
from tests.conftest import mapped, toy_work


@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("batch_tokens", [1, 300, 10_000])
def test_label_attention_equals_the_row_of_whole_maps(
    lm: LanguageModel, task: Task, shots: int, batch_tokens: int
) -> None:
    experiment = AttentionPrediction(n_queries=5, shots_per_class=shots)
    work = toy_work(experiment, lm, task)
    for record, prompt in zip(mapped(experiment, lm, work, batch_tokens), work.prompts, strict=True):
        seen = oracle.run(lm, prompt.ids)
        for layer, weights in enumerate(seen.weights):
            for label in range(3):
                anchors = [d.anchor for d in prompt.demonstrations if d.label == label]
                assert len(anchors) == shots
                expected = sum(weights[:, prompt.target, p].sum().item() for p in anchors)
                assert record["label_attention"][layer][label] == pytest.approx(expected, rel=1e-5)
        probs = seen.logits[-1][list(prompt.label_tokens)].softmax(dim=0)
        assert record["variants"]["full"]["probs"] == pytest.approx(probs.tolist(), rel=1e-4)


def record(query: int, predicted: int, attention: list[list[float]]) -> dict[str, object]:
    probs = [0.1] * len(attention[0])
    probs[predicted] = 0.8
    return {
        "query": query,
        "label": 0,
        "variants": {"full": {"probs": probs, "top5": []}},
        "label_attention": attention,
    }


def test_two_classes_are_told_by_the_score_of_the_second() -> None:
    records = [  # layer 1: one pair of four in the wrong order; layer 2: all right, whatever the first class's score is
        record(0, 0, [[9.0, 0.1], [0.0, 0.1]]),
        record(1, 0, [[9.0, 0.3], [0.0, 0.2]]),
        record(2, 1, [[0.0, 0.2], [9.0, 0.3]]),
        record(3, 1, [[0.0, 0.4], [9.0, 0.4]]),
    ]
    result = AttentionPrediction().reduce(records, ["a", "b"])
    assert list(result.curves["AUCROC"].values) == [0.75, 1.0]
    assert list(result.curves["R"].values) == pytest.approx([0.25 / 0.75, 1.0])
    assert result.curves["AUCROC"].x == "layer"
    assert not result.notes


def test_classes_that_are_never_predicted_are_dropped_and_said() -> None:
    rows = [(0, [0.5, 7.0, 0.2]), (0, [0.4, 0.0, 0.3]), (2, [0.1, 0.0, 0.2]), (2, [0.1, 9.0, 0.9])]
    result = AttentionPrediction().reduce([record(i, c, [a]) for i, (c, a) in enumerate(rows)], ["a", "b", "c"])
    assert list(result.curves["AUCROC"].values) == [pytest.approx(0.625)]  # 0.2 and 0.3 against 0.2 (a tie) and 0.9
    assert "never predicts them: b" in result.notes[0]


def test_one_predicted_class_is_undefined_and_said() -> None:
    result = AttentionPrediction().reduce([record(i, 1, [[0.1, 0.2]]) for i in range(3)], ["a", "b"])
    assert math.isnan(result.curves["AUCROC"].values[0])
    assert math.isnan(result.curves["R"].values[0])
    assert result.notes == ["AUCROC and R are undefined: the model predicts 'b' for all 3 queries"]
    assert result.to_json()["curves"]["AUCROC"]["values"] == [None]


def test_more_classes_are_the_mean_over_pairs_of_normalised_scores() -> None:
    generator = np.random.default_rng(0)
    predicted, score = np.arange(30) % 3, generator.random((30, 3))
    shares = score / score.sum(axis=1, keepdims=True)

    def auc(positive: np.ndarray, negative: np.ndarray) -> float:
        return float(np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative]))

    pairs = [
        (
            auc(shares[predicted == i, i], shares[predicted == j, i])
            + auc(shares[predicted == j, j], shares[predicted == i, j])
        )
        / 2
        for i in range(3)
        for j in range(i)
    ]
    assert metrics.auc_of_prediction(predicted, score) == pytest.approx(np.mean(pairs))


def test_contributions_add_up_to_one() -> None:
    assert metrics.cumulative_contribution([0.6, 0.4, 0.8]) == pytest.approx([1 / 3, 0.0, 1.0])
    assert math.isnan(metrics.cumulative_contribution([0.5, 0.5])[0])


def test_a_contribution_to_less_than_its_standard_error_is_undefined() -> None:
    assert metrics.cumulative_contribution([0.6, 0.4, 0.8], 0.29) == pytest.approx([1 / 3, 0.0, 1.0])
    assert all(map(math.isnan, metrics.cumulative_contribution([0.6, 0.4, 0.8], 0.31)))
    assert all(map(math.isnan, metrics.cumulative_contribution([0.6, 0.4, 0.8], 0.3 - 1e-16)))  # equal but for rounding


def test_of_several_curves_it_is_that_of_their_mean() -> None:
    """Sums 0.2 and 0.4: the mean curve rises by 0.1 and 0.2, a third and two thirds; of each alone by a half and 1/4."""
    found, errors, stderr = metrics.contribution_of_mean(np.array([[0.6, 0.6], [0.6, 0.8]]))
    assert found == pytest.approx([1 / 3, 1])
    assert errors == pytest.approx([1 / 8, 0])  # the jackknife of 1/2 and 1/4
    assert stderr == pytest.approx(0.1)
    # The mean of their R would follow the second, whose sum is next to nothing: (0.5 + 100) / 2.
    found, *_ = metrics.contribution_of_mean(np.array([[0.7, 0.7], [0.6, 0.401]]))
    assert found == pytest.approx([0.3 / 0.401, 1])
    found, errors, _ = metrics.contribution_of_mean(np.array([[0.9, 0.9], [0.2, 0.2]]))  # sums 0.8 and -0.6
    assert all(map(math.isnan, [*found, *errors]))


def test_the_error_of_an_area_is_delongs() -> None:
    """Of two classes by hand: 0.2 and 0.4 above 0.1 and 0.3, which wins 1/2 and 1 of its pairs, and loses 0 and 1/2."""
    predicted, score = np.array([0, 0, 1, 1]), np.array([[9.0, 0.1], [9.0, 0.3], [9.0, 0.2], [9.0, 0.4]])
    found = metrics.auc_influence(predicted, score)
    assert (found**2).sum() == pytest.approx(1 / 8 / 2 + 1 / 8 / 2)  # the variances of (1/2, 1) and (0, 1/2) over two
    assert np.isnan(metrics.auc_influence(np.zeros(4, dtype=int), score)).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_the_error_of_an_area_is_its_spread_over_draws(classes: int) -> None:
    draw = np.random.default_rng(classes)
    areas, errors = [], []
    for _ in range(300):
        predicted = np.arange(60) % classes
        score = draw.random((60, classes)) + 0.6 * np.eye(classes)[predicted]
        areas.append(metrics.auc_of_prediction(predicted, score))
        errors.append(np.linalg.norm(metrics.auc_influence(predicted, score)))
    assert np.mean(errors) == pytest.approx(np.std(areas), rel=0.15)


def test_layers_that_say_nothing_together_leave_r_undefined_and_it_is_said() -> None:
    rows = [(0, 0.1), (0, 0.4), (0, 0.3), (1, 0.2), (1, 0.45), (1, 0.3)]
    result = AttentionPrediction().reduce([record(i, c, [[0.0, a]]) for i, (c, a) in enumerate(rows)], ["a", "b"])
    assert result.curves["AUCROC"].values == [pytest.approx(5.5 / 9)]
    assert math.isnan(result.curves["R"].values[0])
    (note,) = result.notes
    assert note.startswith(
        "R is undefined: AUCROC - 0.5 summed over the layers, 0.111, does not exceed its standard error, 0."
    )
