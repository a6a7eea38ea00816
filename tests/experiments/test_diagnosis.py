"""Predicted confusion against scikit-learn's PCA of whole query vectors and the keys themselves."""

import math

import numpy as np
import pytest
from sklearn.decomposition import PCA

from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import Diagnosis
from anchorflow.models import LanguageModel, Shape
from anchorflow.results import metrics
from tests import oracle
from tests.conftest import mapped, toy_work


@pytest.mark.parametrize("batch_tokens", [1, 10_000])
@pytest.mark.parametrize("components", [2, 10])
def test_equal_to_principal_components_and_projected_keys(
    lm: LanguageModel, task: Task, batch_tokens: int, components: int
) -> None:
    experiment = Diagnosis(n_queries=12, components=components)
    work = toy_work(experiment, lm, task)
    result = experiment.reduce(mapped(experiment, lm, work, batch_tokens), task.labels)
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
        found = Diagnosis(n_queries=12, components=components, layer=layer + 1).reduce(
            mapped(experiment, lm, work, batch_tokens), task.labels
        )
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
    with pytest.raises(UserError, match="all test examples of toy are 'Location', two are needed"):
        Diagnosis(n_queries=1).check(one, Shape("small", 3, 4))
    own = dataclasses.replace(task.test[0], demonstrations=(task.train[0],))
    with pytest.raises(UserError, match="compares the anchors of demonstrations that all queries share; rows of toy"):
        Diagnosis(n_queries=1).check(dataclasses.replace(task, test=(own, *task.test[1:])), Shape("small", 3, 4))
