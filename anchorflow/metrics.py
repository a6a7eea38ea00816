"""Measures of predictions: pure functions of arrays, fractions between 0 and 1."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def accuracy(labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"]) -> float:
    """Share of queries whose most probable label is the true one."""
    return float(np.mean(probs.argmax(axis=1) == labels))


def macro_f1(labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"]) -> float:
    """F1 averaged over the classes that occur as a label or as a prediction; a class never right counts 0."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, probs.argmax(axis=1), average="macro", zero_division=0.0))


def confusion(labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"]) -> Float[ndarray, "label label"]:
    """Share of each true class (rows) that is predicted as each class (columns); a class without queries is a row of nan."""
    n = probs.shape[1]
    counts = np.zeros((n, n))
    np.add.at(counts, (labels, probs.argmax(axis=1)), 1)
    with np.errstate(invalid="ignore"):
        shares: ndarray = counts / counts.sum(axis=1, keepdims=True)
    return shares


def calibration_bins(
    labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"], bins: int = 10
) -> Float[ndarray, "bin 3"]:
    """For equal bins of the predicted label's probability: share of queries, mean probability, accuracy (nan if empty)."""
    confidence = probs.max(axis=1)
    right = (probs.argmax(axis=1) == labels).astype(float)
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for b in range(bins):
        inside = index == b
        n = int(inside.sum())
        rows.append(
            [n / len(labels), confidence[inside].mean() if n else math.nan, right[inside].mean() if n else math.nan]
        )
    return np.array(rows)


def expected_calibration_error(
    labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"], bins: int = 10
) -> float:
    """Mean distance between confidence and accuracy over equal bins, weighted by their queries (Guo et al. 2017)."""
    share, confidence, right = calibration_bins(labels, probs, bins).T
    return float(np.nansum(share * np.abs(confidence - right)))


def mean_and_stderr(values: Float[ndarray, "query *rest"]) -> tuple[ndarray, ndarray]:
    """Mean over the first axis and its standard error (nan for a single value)."""
    n = len(values)
    spread = values.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full(values.shape[1:], math.nan)
    return values.mean(axis=0), spread


def proportion_stderr(share: float, n: int) -> float:
    """Standard error of a share of `n` queries."""
    return math.sqrt(share * (1 - share) / n) if n else math.nan


def stack_probs(variants: Sequence[dict[str, object]]) -> Float[ndarray, "query label"]:
    """The label-word probabilities of several records' variants."""
    return np.array([variant["probs"] for variant in variants], dtype=float)
