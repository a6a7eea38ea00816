"""Errors, clustered and paired tests, bootstraps, and the correction of many: by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from anchorflow.results import statistics

NAN = math.nan


def test_mean_and_stderr() -> None:
    mean, stderr = statistics.mean_and_stderr(np.array([[1.0, 2.0], [3.0, 2.0]]))
    np.testing.assert_allclose(mean, [2, 2])
    np.testing.assert_allclose(stderr, [1, 0])
    assert math.isnan(statistics.mean_and_stderr(np.array([[1.0]]))[1][0])


def test_the_error_of_a_share_is_half_of_wilsons_interval_and_never_none() -> None:
    hits = np.array([[1.0], [0.0], [1.0], [1.0]])  # the roots of (p - 3/4)^2 = p (1 - p) / 4 are 7/10 -+ 1/5
    assert statistics.proportion_stderr(0.75, 4) == pytest.approx(0.2)
    assert float(statistics.share_and_stderr(hits)[1][0]) == pytest.approx(0.2)
    assert statistics.proportion_stderr(1.0, 100) == pytest.approx(1 / 202)  # the interval is [100/101, 1]
    mean, stderr = statistics.share_and_stderr(np.ones((100, 2)))
    np.testing.assert_allclose([mean, stderr], [[1, 1], [1 / 202, 1 / 202]])
    assert math.isnan(statistics.proportion_stderr(1.0, 1))
    assert math.isnan(float(statistics.share_and_stderr(np.ones((1, 1)))[1][0]))


def test_seeds_are_clusters_however_many_pairs_they_have() -> None:
    """Mean differences of -0.31, 0.05 and 0.25: -0.0033 -+ t(2) s / sqrt(3), with t(2) = 4.3027 and s = 0.2838."""
    seeds, apart = [], []
    for seed, mended, spoilt, n in ((42, 0, 31, 100), (43, 5, 0, 100), (44, 50, 0, 200)):
        seeds += [seed] * n
        apart += [1.0] * mended + [-1.0] * spoilt + [0.0] * (n - mended - spoilt)
    found = statistics.clustered_difference(np.array(apart), np.zeros(400), seeds)
    assert found.mean == pytest.approx(-0.01 / 3)
    assert (found.low, found.high) == pytest.approx((-0.7083, 0.7016), abs=1e-4)
    assert found.p == pytest.approx(0.9856, abs=1e-4)


def test_clusters_without_an_interval() -> None:
    ones, zeros = np.ones(4), np.zeros(4)
    alone = statistics.clustered_difference(ones, zeros, [42] * 4)
    assert (alone.mean, math.isnan(alone.low), math.isnan(alone.p)) == (1, True, True)
    alike = statistics.clustered_difference(
        ones, zeros, [42, 42, 43, 43]
    )  # two seeds that agree by chance prove nothing
    assert (alike.mean, math.isnan(alike.low), math.isnan(alike.p)) == (1, True, True)
    assert statistics.clustered_difference(ones, ones, [42, 42, 43, 43]).p == 1


def test_differences_that_do_not_vary_are_certain() -> None:
    ones, zeros = np.ones(3), np.zeros(3)
    assert statistics.paired_difference(ones, zeros).p == 0
    assert statistics.paired_difference(ones, ones).p == 1


def test_a_bootstrap_of_means() -> None:
    # Resamples of two units are (0, 0), (0, 4), (4, 0), (4, 4): their means are 0, 2, 2, 4; a quarter are 0 or less.
    mixed, above = statistics.bootstrap_means(np.array([[0.0, 1.0], [4.0, 3.0]]))
    assert (mixed.low, mixed.high) == (0, 4)
    assert mixed.p == pytest.approx(0.5, abs=0.02)
    assert (above.low, above.high, above.p) == (1, 3, 2 / 10_001)  # no resample is 0 or less
    assert all(map(math.isnan, statistics.bootstrap_means(np.ones((1, 1)))[0]))
    drawn = np.random.default_rng(1).normal(0.3, 1, size=(200, 1))
    (found,) = statistics.bootstrap_means(drawn)
    t = statistics.paired_difference(drawn[:, 0], np.zeros(200))
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=0.02)


def test_a_bootstrap_of_a_statistic() -> None:
    values = np.array([0.0, 4.0])
    assert statistics.bootstrap_interval(2, lambda counts: counts @ values / 2) == (0, 4)
    # Undefined where only the first is drawn, in a quarter of the resamples: the others count.
    assert statistics.bootstrap_interval(2, lambda counts: np.where(counts[:, 1], 4.0, NAN)) == (4, 4)
    assert all(map(math.isnan, statistics.bootstrap_interval(2, lambda counts: np.full(len(counts), NAN))))


def test_permuted_classes_by_hand() -> None:
    """Three classes have three pairs and six orders, each of which moves the pairs differently."""
    first = np.array([[1, 0.1, 0.2], [0.1, 1, 0.3], [0.2, 0.3, 1]])
    # Of the orders of ranks 1, 2, 3 only the same and the reverse correlate as strongly as 1.
    assert statistics.permuted_classes_p(first, first) == pytest.approx(2 / 6)
    # (1, 3, 2) correlates by 1/2 with (1, 2, 3), as weakly as any order does.
    second = np.array([[1, 0.1, 0.3], [0.1, 1, 0.2], [0.3, 0.2, 1]])
    assert statistics.permuted_classes_p(first, second) == 1
    assert math.isnan(statistics.permuted_classes_p(first[:2, :2], second[:2, :2]))
    assert math.isnan(statistics.permuted_classes_p(first, np.ones((3, 3))))


def test_pairs_that_share_a_class_are_not_independent() -> None:
    """One class of six is far from all others in both matrices: its pairs are 5 of 15, but it is one class."""
    draw = np.random.default_rng(3)
    matrices = []
    for _ in range(2):
        of = draw.uniform(0, 0.1, size=(6, 6))
        of[5] += 0.5
        matrices.append(np.maximum(of, of.T))
    rows, columns = np.triu_indices(6, k=1)
    naive = stats.spearmanr(matrices[0][rows, columns], matrices[1][rows, columns])
    found = statistics.permuted_classes_p(*matrices)
    assert naive.pvalue < 0.05
    assert found > 2 * naive.pvalue
    holes = [np.full((7, 7), NAN) for _ in range(2)]  # a class without queries changes nothing
    for hole, matrix in zip(holes, matrices, strict=True):
        hole[:6, :6] = matrix
    assert statistics.permuted_classes_p(*holes) == found


def test_more_classes_than_can_be_permuted_are_sampled() -> None:
    matrix = np.abs(np.arange(9)[:, None] - np.arange(9)) ** 1.5
    assert statistics.permuted_classes_p(matrix, matrix) < 0.001


def test_holm_by_hand() -> None:
    assert statistics.holm([0.04, NAN, 0.01, 0.03]) == pytest.approx([0.06, NAN, 0.03, 0.06], nan_ok=True)
    assert statistics.holm([0.6, 0.7]) == [1, 1]
    assert statistics.holm([]) == []
