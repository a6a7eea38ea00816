"""What is tested beside one number of examples: accuracy, and the second half of the curve; both by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from anchorflow.experiments import LabelRelationships
from anchorflow.experiments.contrasts import contrasts, second_half
from tests.experiments.test_label_relationships import BOTH
from tests.experiments.test_label_relationships_results import record


def test_every_comparison_is_one_of_accuracy_and_over_the_second_half_too() -> None:
    experiment = LabelRelationships(regimes=("default", "flipped", {"flip_after": 4}, {"default_after": 4}))
    found = contrasts(experiment.comparisons(12, 2), 12)
    of_flipped = "default_minus_flipped"
    assert [(c.name, c.second, c.over) for c in found] == [
        ("default_minus_guessing", ("guessing", "log_likelihood"), slice(11, 12)),
        ("default_minus_guessing_second_half", ("guessing", "log_likelihood"), slice(6, 12)),
        ("default_minus_guessing_accuracy", ("guessing", "accuracy"), slice(11, 12)),
        ("default_minus_guessing_accuracy_second_half", ("guessing", "accuracy"), slice(6, 12)),
        (of_flipped, ("flipped", "flipped_log_likelihood"), slice(11, 12)),
        (f"{of_flipped}_second_half", ("flipped", "flipped_log_likelihood"), slice(6, 12)),
        (f"{of_flipped}_accuracy", ("flipped", "flipped_accuracy"), slice(11, 12)),
        (f"{of_flipped}_accuracy_second_half", ("flipped", "flipped_accuracy"), slice(6, 12)),
        (f"{of_flipped}_entropy", ("flipped", "entropy"), slice(11, 12)),
        (f"{of_flipped}_entropy_second_half", ("flipped", "entropy"), slice(6, 12)),
        ("flip_after_4_minus_default_after_4_at_8", ("default_after_4", "log_likelihood"), slice(8, 9)),
        ("flip_after_4_minus_default_after_4_accuracy_at_8", ("default_after_4", "accuracy"), slice(8, 9)),
    ]
    names = [c.name for c in contrasts(LabelRelationships(regimes=BOTH).comparisons(12, 3), 12)]
    assert len(names) == len(set(names))


def test_the_second_half_of_an_odd_curve_has_its_middle() -> None:
    assert [list(range(n)[second_half(n)]) for n in (1, 2, 5, 6)] == [[0], [1], [2, 3, 4], [3, 4, 5]]


def test_a_repetition_is_one_number_whatever_the_length_of_the_half() -> None:
    """Three repetitions of four examples of the first of two classes; the probability of the right word is given."""

    def curves(*p: float) -> list[list[float]]:
        return [[each, 1 - each] for each in p]

    default = [(0.1, 0.1, 0.8, 0.6), (0.1, 0.1, 0.4, 0.9), (0.1, 0.1, 0.8, 0.9)]
    random = [(0.9, 0.9, 0.4, 0.6), (0.9, 0.9, 0.4, 0.9), (0.9, 0.9, 0.4, 0.3)]
    records = [
        record(i, [0] * 4, default=curves(*a), random=curves(*b))
        for i, (a, b) in enumerate(zip(default, random, strict=True))
    ]
    for each in records:
        each["frequencies"] = [0.5, 0.5]
    result = LabelRelationships(regimes=("default", "random"), n_demonstrations=4, repetitions=3).reduce(records, ())
    # Of the second half, in turn, 2, 1 and 2 of 2 are right by default, 1, 1 and 0 by random labels.
    assert result.metrics["default/accuracy_second_half"] == pytest.approx(5 / 6)
    assert result.stderr["default/accuracy_second_half"] == pytest.approx(math.sqrt(1 / 18 / 3 + 1 / 36) / (4 / 3))
    assert result.metrics["default_minus_random_accuracy_second_half"] == pytest.approx(0.5)
    t = stats.ttest_1samp([0.5, 0.0, 1.0], 0)
    assert result.metrics["default_minus_random_accuracy_second_half_p"] == pytest.approx(t.pvalue)
    likelihood = [math.log(0.8 / 0.4) / 2, 0.0, math.log(0.8 / 0.4 * 0.9 / 0.3) / 2]
    assert result.metrics["default_minus_random_second_half"] == pytest.approx(np.mean(likelihood))
    assert result.metrics["default_minus_random"] == pytest.approx(math.log(0.9 / 0.3) / 3)
    assert result.metrics["default_minus_random_accuracy"] == pytest.approx(1 / 3)
    assert result.metrics["default_minus_guessing_accuracy_second_half"] == pytest.approx(1 / 3)
    table = result.tables["differences"]
    assert table.columns == ["difference", "low", "high", "p", "bootstrap_low", "bootstrap_high", "bootstrap_p"]
    row = dict(zip(table.columns, table.values[table.rows.index("default_minus_random_second_half")], strict=True))
    assert row["low"] < row["bootstrap_low"] < row["difference"] < row["bootstrap_high"] < row["high"]
    assert row["bootstrap_p"] == pytest.approx(2 / 27, abs=0.01)  # 0 or less only where the second is drawn three times
