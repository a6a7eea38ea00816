import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from anchorflow.results import metrics

LABELS = np.array([0, 0, 1, 1])
PROBS = np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0]])


def test_by_hand() -> None:
    assert metrics.accuracy(LABELS, PROBS) == 0.75
    # class 0: precision 1, recall 1/2, F1 2/3; class 1: precision 2/3, recall 1, F1 4/5; class 2 does not occur
    assert metrics.macro_f1(LABELS, PROBS) == pytest.approx((2 / 3 + 4 / 5) / 2)
    # confidences .9 (right), .6 (wrong), .8 (right), .7 (right), each alone in its bin
    assert metrics.expected_calibration_error(LABELS, PROBS) == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_equal_to_scikit_learn(classes: int, seed: int) -> None:
    """Which takes longer to be imported than a short run takes."""
    draw = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), draw.integers(classes, size=40)])
    scores = draw.integers(1, 5, size=(len(labels), classes)) / 4  # with ties
    shares = scores / scores.sum(axis=1, keepdims=True)
    f1 = f1_score(labels, shares.argmax(axis=1), average="macro", zero_division=0.0)
    assert metrics.macro_f1(labels, shares) == pytest.approx(f1)
    assert metrics.area_under_roc(labels == 0, scores[:, 0]) == pytest.approx(roc_auc_score(labels == 0, scores[:, 0]))
    if classes > 2:
        area = roc_auc_score(labels, shares, multi_class="ovo")
        assert metrics.auc_of_prediction(labels, scores) == pytest.approx(area)


def test_confusion_has_rows_of_shares_and_says_nan_where_there_is_nothing() -> None:
    found = metrics.confusion(LABELS, PROBS)
    np.testing.assert_allclose(found[:2], [[0.5, 0.5, 0], [0, 1, 0]])
    assert np.isnan(found[2]).all()


def test_a_certain_and_right_model_is_calibrated() -> None:
    assert metrics.expected_calibration_error(LABELS, np.eye(2)[LABELS]) == 0
    assert metrics.accuracy(LABELS, np.eye(2)[LABELS]) == metrics.macro_f1(LABELS, np.eye(2)[LABELS]) == 1
