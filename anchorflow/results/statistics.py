"""Means with their errors, paired tests and their correction: pure functions of arrays."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray


def mean_and_stderr(values: Float[ndarray, "query ..."]) -> tuple[ndarray, ndarray]:
    """Mean over the first axis and its standard error (nan for a single value)."""
    n = len(values)
    spread = values.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full(values.shape[1:], math.nan)
    return values.mean(axis=0), spread


class Difference(NamedTuple):
    """A mean difference, its standard error, its 95 % confidence interval, and the p of its being none (two-sided)."""

    mean: float
    stderr: float
    low: float
    high: float
    p: float


def paired_difference(first: Float[ndarray, " pair"], second: Float[ndarray, " pair"]) -> Difference:
    """`first` minus `second` by Student's t over pairs. One pair has no interval and no p (nan)."""
    from scipy.stats import t

    apart = first - second
    means, errors = mean_and_stderr(apart[:, None])
    mean, stderr, free = float(means[0]), float(errors[0]), len(apart) - 1
    if free < 1:
        return Difference(mean, math.nan, math.nan, math.nan, math.nan)
    reach = float(t.ppf(0.975, free)) * stderr
    p = 2 * float(t.sf(abs(mean) / stderr, free)) if stderr else float(mean == 0)
    return Difference(mean, stderr, mean - reach, mean + reach, p)


def holm(p: Sequence[float]) -> list[float]:
    """The p of several tests, corrected so that a true null hypothesis among all of them is rejected as rarely as alone.

    Holm's step-down; a test without a p (nan) has none here either and does not count.
    """
    values = np.array(p, dtype=float)
    order = [i for i in np.argsort(values, kind="stable") if not math.isnan(values[i])]
    corrected, largest = np.full(len(values), math.nan), 0.0
    for step, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - step) * values[i]))
        corrected[i] = largest
    found: list[float] = corrected.tolist()
    return found


def proportion_stderr(share: float, n: int) -> float:
    """Standard error of a share of `n` queries (nan for a single one), which is that of `mean_and_stderr` of hits."""
    return math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else math.nan
