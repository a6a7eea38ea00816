"""Cross-fitted calibration by hand, and that it takes the records of a run without it."""

import numpy as np
import pytest

from anchorflow.errors import UserError
from anchorflow.experiments import LabelRelationships
from anchorflow.experiments.calibration import cross_fitted
from tests.experiments.test_label_relationships_results import record


def test_a_repetition_is_calibrated_by_the_others_alone() -> None:
    p = np.array([[[0.8, 0.2]], [[0.5, 0.5]], [[0.2, 0.8]]])  # repetition, position, word
    # The first by the mean log of (.5, .5) and (.2, .8): odds 4 over sqrt(1/4) = 8; the second by odds sqrt(4/4) = 1:
    # as it is; the third by sqrt(4): odds 1/4 over 2 = 1/8.
    np.testing.assert_allclose(np.exp(cross_fitted(np.log(p)))[:, 0, 0], [8 / 9, 1 / 2, 1 / 9])


def test_a_bias_that_all_repetitions_share_is_taken_away() -> None:
    unbiased = np.log([[[0.6, 0.4]], [[0.4, 0.6]], [[0.6, 0.4]], [[0.4, 0.6]]])
    biased = unbiased + np.array([3.0, 0.0])
    biased -= np.logaddexp.reduce(biased, axis=2, keepdims=True)
    np.testing.assert_allclose(cross_fitted(biased), cross_fitted(unbiased))


def test_alone_there_is_nothing_to_calibrate_with() -> None:
    with pytest.raises(UserError, match="the mean over other repetitions, but all repetitions except one were skipped"):
        cross_fitted(np.log([[[0.8, 0.2]]]))


def test_per_position_follows_from_the_records_and_mends_a_bias_towards_one_word() -> None:
    """Always the first of two words is likelier, but more so where it is right: calibrated, every answer is right."""
    records = [record(i, [i % 2], default=[[0.9, 0.1] if i % 2 == 0 else [0.7, 0.3]]) for i in range(20)]
    settings = {"regimes": ("default",), "n_demonstrations": 1, "repetitions": 20}
    plain = LabelRelationships(**settings).reduce(records, ())
    mended = LabelRelationships(**settings, calibrate="per_position").reduce(records, ())
    assert plain.metrics["default/accuracy_at_max"] == 0.5
    assert mended.metrics["default/accuracy_at_max"] == 1
    odds, prior = 9.0, (9.0**9 * (7 / 3) ** 10) ** (1 / 19)  # of an even repetition, and of the 19 others
    assert mended.curves["default/log_likelihood"].values[0] == pytest.approx(
        (np.log(odds / prior / (1 + odds / prior)) - np.log1p(7 / 3 / (9.0**10 * (7 / 3) ** 9) ** (1 / 19))) / 2
    )


@pytest.mark.parametrize(("before", "now"), [(False, "none"), (True, "content_free"), ("per_position", "per_position")])
def test_yes_and_no_are_still_taken(before: bool | str, now: str) -> None:
    assert LabelRelationships(calibrate=before).calibrate == now
