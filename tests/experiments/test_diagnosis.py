"""Predicted confusion against scikit-learn's PCA of whole query vectors and the keys themselves."""

import base64
import math

import numpy as np
import pytest
from sklearn.decomposition import PCA

from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import Diagnosis
from anchorflow.experiments.diagnosis import _distances, _overlaps, predicted_confusion
from anchorflow.models import LanguageModel, Shape
from anchorflow.results import Record, metrics
from tests import oracle
from tests.conftest import mapped, toy_work


@pytest.mark.parametrize("batch_tokens", [1, 10_000])
@pytest.mark.parametrize("components", [2, 10])
def test_equal_to_principal_components_and_projected_keys(
    lm: LanguageModel, task: Task, batch_tokens: int, components: int
) -> None:
    experiment = Diagnosis(n_queries=12, components=components)
    work = toy_work(experiment, lm, task)
    records = mapped(experiment, lm, work, batch_tokens)
    result = experiment.reduce(records, task.labels)
    seen = [oracle.run(lm, p.ids) for p in work.prompts]
    anchors = {d.label: d.anchor for d in work.prompts[0].demonstrations}
    for layer in range(lm.shape.layers):
        queries = np.array(
            [s.query[layer][:, p.target].flatten().tolist() for s, p in zip(seen, work.prompts, strict=True)]
        )
        keys = np.array([seen[0].key[layer][:, anchors[c]].flatten().tolist() for c in range(3)])
        pca = PCA(components).fit(queries)
        projected = keys @ pca.components_.T * pca.singular_values_
        distance = np.array([[np.linalg.norm(a - b) for a in projected] for b in projected])
        expected = distance / distance.max()
        np.fill_diagonal(expected, 1)
        found = Diagnosis(n_queries=12, components=components, layer=layer + 1).reduce(records, task.labels)
        np.testing.assert_allclose(found.tables["predicted_confusion"].values, expected, rtol=1e-3)
    assert result.metrics["layer"] == 2  # two thirds of three


def test_confusion_is_the_area_under_roc_of_each_pair() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    probs = np.array([[0.6, 0.3, 0.1], [0.2, 0.4, 0.4], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    found = metrics.pairwise_auc(labels, probs)
    assert found[0, 1] == found[1, 0] == 0.75  # ratios 2, 0.5 against 1, 0.125: one of four pairs is wrong
    assert found[0, 2] == 1.0
    assert list(np.diagonal(found)) == [1, 1, 1]
    assert math.isnan(metrics.pairwise_auc(labels[:4], probs[:4])[0, 2])


def test_a_query_that_is_there_twice_counts_twice() -> None:
    labels, probs = np.array([0, 0, 1, 1]), np.array([[0.6, 0.4], [0.3, 0.7], [0.4, 0.6], [0.2, 0.8]])
    twice = np.array([0, 1, 1, 2, 3])
    counted = metrics.resampled_pairwise_auc(labels, probs, np.array([[0, 0, 1, 1], [1, 2, 1, 1]]))
    assert math.isnan(counted[0, 0, 1])
    counted = counted[1]
    np.testing.assert_allclose(counted, metrics.pairwise_auc(labels[twice], probs[twice]))
    assert counted[0, 1] == pytest.approx((2 + 1 + 1) / 6)
    draw = np.random.default_rng(0)
    queries, products = draw.normal(size=(9, 5)), draw.normal(size=(9, 3))
    counts = np.array([2, 0, 1, 3, 1, 1, 0, 1, 1])
    drawn = np.repeat(np.arange(9), counts)
    found = _distances(_overlaps(queries), products, 3, counts)
    np.testing.assert_allclose(found, predicted_confusion(queries[drawn], products[drawn], 3))


def by_hand(query: int, label: int, at: float, shift: float) -> Record:
    """A query of one number, whose anchors' keys lie at 0, 1 and 3 times it: a pair's distance does not depend on it."""
    probs = np.exp([0.0, shift, 2 * shift])
    return {
        "query": query,
        "label": label,
        "variants": {"full": {"probs": (probs / probs.sum()).tolist(), "top5": []}},
        "query_vectors": [base64.b64encode(np.array([at], dtype="<f4").tobytes()).decode()],
        "anchor_products": [[0.0, at, 3 * at]],
    }


def test_three_pairs_agree_wholly_and_prove_nothing() -> None:
    """Keys at 0, 1 and 3: distances 1/3, 2/3 (classes 1 and 2) and 1. The areas have the same order: two of six have."""
    shifts = [(c, x + 0.3 * c * (c + 1) / 2) for c in range(3) for x in np.linspace(-1, 1, 10)]
    records = [by_hand(i, c, (-1.0) ** i * (i + 1), shift) for i, (c, shift) in enumerate(shifts)]
    found = Diagnosis(components=1, layer=1).reduce(records, ["a", "b", "c"])
    expected = [[1, 1 / 3, 1], [1 / 3, 1, 2 / 3], [1, 2 / 3, 1]]
    np.testing.assert_allclose(found.tables["predicted_confusion"].values, expected)
    assert found.metrics["spearman"] == pytest.approx(1)
    assert found.metrics["spearman_p"] == pytest.approx(2 / 6)
    assert -1 <= found.metrics["spearman_low"] < 1
    assert found.metrics["spearman_high"] == pytest.approx(1)


def test_correlations_of_rows_are_those_of_each() -> None:
    draw, nan = np.random.default_rng(0), math.nan
    first, second = draw.integers(4, size=(2, 20, 6)).astype(float)
    first[3, 2], second[5], second[6, :4] = nan, 1.0, nan
    each = [metrics.rank_correlation(*rows) for rows in zip(first, second, strict=True)]
    np.testing.assert_allclose(metrics.rank_correlations(first, second), each)
    assert np.isnan(each[5:7]).all()


def test_rank_correlation_needs_three_pairs_that_differ() -> None:
    nan = math.nan
    assert metrics.rank_correlation(np.array([1.0, 2.0, 3.0, nan]), np.array([2.0, 4.0, 9.0, 1.0])) == pytest.approx(1)
    assert math.isnan(metrics.rank_correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])))
    assert math.isnan(metrics.rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0])))


def test_two_classes_have_one_pair_and_say_that_it_has_no_rank(lm: LanguageModel, task: Task) -> None:
    import dataclasses

    two = dataclasses.replace(
        task,
        label_words=task.label_words[:2],
        train=tuple(row for row in task.train if row.label < 2),
        test=tuple(row for row in task.test if row.label < 2),
    )
    experiment = Diagnosis(n_queries=8)
    result = experiment.reduce(mapped(experiment, lm, toy_work(experiment, lm, two)), two.labels)
    assert math.isnan(result.metrics["spearman"])
    assert "spearman is undefined" in result.notes[0]
    assert result.tables["most_confused"].rows == ["Person / Location"]


def test_the_most_confused_pair_comes_first(lm: LanguageModel, task: Task) -> None:
    experiment = Diagnosis(n_queries=12)
    tables = experiment.reduce(mapped(experiment, lm, toy_work(experiment, lm, task)), task.labels).tables
    table = tables["most_confused"]
    confusion = [row[0] for row in table.values]
    assert confusion == sorted(confusion)
    assert len(table.rows) == 3
    predicted = tables["most_confused_predicted"]
    assert [row[1] for row in predicted.values] == sorted(row[1] for row in table.values)
    assert dict(zip(predicted.rows, predicted.values, strict=True)) == dict(zip(table.rows, table.values, strict=True))


def test_a_layer_that_is_not_there_and_queries_of_one_class_are_refused(task: Task) -> None:
    import dataclasses

    with pytest.raises(UserError, match=r"experiment\.layer is 4; small has 3 layers, allowed: 1 to 3"):
        Diagnosis(n_queries=1, layer=4).check(task, Shape("small", 3, 4))
    one = dataclasses.replace(task, test=tuple(row for row in task.test if row.label == 1))
    with pytest.raises(UserError, match="it needs two, but all test examples of toy are 'Location'"):
        Diagnosis(n_queries=1).check(one, Shape("small", 3, 4))
    own = dataclasses.replace(task.test[0], demonstrations=(task.train[0],))
    with pytest.raises(UserError, match="compares the anchors of demonstrations that all queries share; rows of toy"):
        Diagnosis(n_queries=1).check(dataclasses.replace(task, test=(own, *task.test[1:])), Shape("small", 3, 4))
