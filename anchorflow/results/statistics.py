"""Means with standard errors, paired tests and their correction, as pure functions of arrays."""

import math
from collections.abc import Callable, Hashable, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def mean_and_stderr(values: Float[ndarray, "query ..."]) -> tuple[ndarray, ndarray]:
    """Mean over the first axis and its standard error (nan for a single value)."""
    n = len(values)
    spread = values.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full(values.shape[1:], math.nan)
    return values.mean(axis=0), spread


def share_and_stderr(values: Float[ndarray, "unit ..."]) -> tuple[ndarray, ndarray]:
    """Mean over the first axis of values between 0 and 1, and its standard error (nan for a single value).

    The error is half of Wilson's interval at one standard error: for n hits in n units it is 1 / (2n + 2), not 0.
    """
    return values.mean(axis=0), np.asarray(_wilson(values.var(axis=0), len(values)))


def proportion_stderr(share: float, n: int) -> float:
    """Standard error of a share of `n` queries (nan for a single one), the same as `share_and_stderr` gives for hits."""
    return float(_wilson(share * (1 - share), n))


def _wilson(variance: Any, n: int) -> Any:
    return np.sqrt(variance / n + 1 / (4 * n**2)) / (1 + 1 / n) if n > 1 else variance * math.nan


class Difference(NamedTuple):
    """A mean difference, its standard error, its 95 % confidence interval, and the two-sided p of no difference."""

    mean: float
    stderr: float
    low: float
    high: float
    p: float


def paired_difference(first: Float[ndarray, " pair"], second: Float[ndarray, " pair"]) -> Difference:
    """`first` minus `second` with Student's t over pairs. A single pair has no interval and no p (nan)."""
    from scipy.stats import t

    apart = first - second
    means, errors = mean_and_stderr(apart[:, None])
    mean, stderr, free = float(means[0]), float(errors[0]), len(apart) - 1
    if free < 1:
        return Difference(mean, math.nan, math.nan, math.nan, math.nan)
    reach = float(t.ppf(0.975, free)) * stderr
    p = 2 * float(t.sf(abs(mean) / stderr, free)) if stderr else float(mean == 0)
    return Difference(mean, stderr, mean - reach, mean + reach, p)


def clustered_difference(
    first: Float[ndarray, " pair"], second: Float[ndarray, " pair"], clusters: Sequence[Hashable]
) -> Difference:
    """`first` minus `second` if the pairs of a cluster share something (their demonstrations): Student's t over clusters.

    The mean of the clusters' mean differences; each cluster counts once, however many pairs it has. With fewer than two
    different clusters there is no interval and no p (nan), unless all differences are 0.
    """
    of_cluster: dict[Hashable, list[float]] = {}
    for cluster, apart in zip(clusters, (first - second).tolist(), strict=True):
        of_cluster.setdefault(cluster, []).append(apart)
    means = np.array([np.mean(of_one) for of_one in of_cluster.values()])
    found = paired_difference(means, np.zeros(len(means)))
    if np.any(means) and np.ptp(means) <= 1e-12:
        return Difference(found.mean, math.nan, math.nan, math.nan, math.nan)
    return found


RESAMPLES = 10_000
"""Resamples of the bootstrap of means. Its seed is fixed, so the same records give the same interval."""


class Bootstrap(NamedTuple):
    """A 95 % percentile interval of a mean, and the two-sided p of its being 0."""

    low: float
    high: float
    p: float


def bootstrap_means(values: Float[ndarray, "unit test"]) -> list[Bootstrap]:
    """The bootstrap of each column's mean over units; all columns share the resampled units. A single unit has none (nan)."""
    n = len(values)
    if n < 2:
        return [Bootstrap(math.nan, math.nan, math.nan)] * values.shape[1]
    draws = np.random.default_rng(0).multinomial(n, [1 / n] * n, size=RESAMPLES)
    means = draws @ values / n  # resample, test
    low, high = np.quantile(means, (0.025, 0.975), axis=0)
    tails = [1 + side.sum(axis=0) for side in (means <= 0, means >= 0)]
    p = np.minimum(1.0, 2 * np.minimum(*tails) / (RESAMPLES + 1))
    return [Bootstrap(*map(float, of_test)) for of_test in zip(low, high, p, strict=True)]


def bootstrap_interval(
    n: int, statistic: Callable[[Int[ndarray, "resample unit"]], Float[ndarray, " resample"]], resamples: int = 1000
) -> tuple[float, float]:
    """A 95 % percentile bootstrap interval of a statistic, a function of how often each of the `n` units was drawn.

    Resamples with an undefined (nan) statistic do not count; if most are undefined, the interval is nan.
    """
    found = statistic(np.random.default_rng(0).multinomial(n, [1 / n] * n, size=resamples))
    known = found[~np.isnan(found)]
    if 2 * len(known) < resamples:
        return math.nan, math.nan
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


MOST_CLASSES = 7
"""Up to this many classes, all permutations are tried; with more, RESAMPLES random ones."""


def permuted_classes_p(first: Float[ndarray, "label label"], second: Float[ndarray, "label label"]) -> float:
    """The two-sided p of Spearman's correlation over pairs of classes: how often permuted classes agree as well.

    Pairs that share a class are not independent, so classes are permuted, not pairs (Mantel's test). Classes without a
    known pair do not count. nan for fewer than three other classes, a constant matrix, or other missing pairs.
    """
    from scipy.stats import rankdata

    off = ~np.eye(len(first), dtype=bool)
    kept = (np.isfinite(first) & np.isfinite(second) & off).any(axis=1)
    n = int(kept.sum())
    rows, columns = np.triu_indices(n, k=1)
    pairs = [of[np.ix_(kept, kept)][rows, columns] for of in (first, second)]
    if n < 3 or any(not np.isfinite(of).all() or np.ptp(of) == 0 for of in pairs):
        return math.nan
    one, other = (rankdata(of) - (len(rows) + 1) / 2 for of in pairs)
    matrix = np.zeros((n, n))
    matrix[rows, columns] = matrix[columns, rows] = other
    if n <= MOST_CLASSES:
        orders = np.array(list(permutations(range(n))))
    else:
        orders = np.random.default_rng(0).permuted(np.tile(np.arange(n), (RESAMPLES, 1)), axis=1)
        orders[0] = np.arange(n)
    agreement = np.abs(matrix[orders[:, rows], orders[:, columns]] @ one)
    return float(np.mean(agreement >= abs(other @ one) * (1 - 1e-9)))


def holm(p: Sequence[float]) -> list[float]:
    """The p of several tests with Holm's step-down correction, which controls the family-wise error rate.

    A test without a p (nan) stays nan and does not count.
    """
    values = np.array(p, dtype=float)
    order = [i for i in np.argsort(values, kind="stable") if not math.isnan(values[i])]
    corrected, largest = np.full(len(values), math.nan), 0.0
    for step, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - step) * values[i]))
        corrected[i] = largest
    found: list[float] = corrected.tolist()
    return found
