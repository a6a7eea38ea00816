"""Measures of predictions, as pure functions of arrays. Shares are fractions between 0 and 1."""

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray


def accuracy(labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"]) -> float:
    """Share of queries whose most probable label is the true one."""
    return float(np.mean(probs.argmax(axis=1) == labels))


def macro_f1(labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"]) -> float:
    """F1 averaged over the classes that occur as a label or a prediction; a class without correct predictions counts 0."""
    predicted = probs.argmax(axis=1)
    found = []
    for c in np.union1d(labels, predicted):
        right = int(((labels == c) & (predicted == c)).sum())
        found.append(2 * right / int((labels == c).sum() + (predicted == c).sum()))
    return float(np.mean(found))


def confusion(labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"]) -> Float[ndarray, "label label"]:
    """The share of each true class (rows) predicted as each class (columns); the row of a class without queries is nan."""
    n = probs.shape[1]
    counts = np.zeros((n, n))
    np.add.at(counts, (labels, probs.argmax(axis=1)), 1)
    with np.errstate(invalid="ignore"):
        shares: ndarray = counts / counts.sum(axis=1, keepdims=True)
    return shares


def calibration_bins(
    labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"], bins: int = 10
) -> Float[ndarray, "bin 3"]:
    """Share of queries, mean probability and accuracy (nan if empty) in equal bins of the predicted label's probability."""
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
    """Mean distance between confidence and accuracy over equal bins, weighted by their numbers of queries (Guo et al. 2017)."""
    share, confidence, right = calibration_bins(labels, probs, bins).T
    return float(np.nansum(share * np.abs(confidence - right)))


def label_agreement(
    probs: Float[ndarray, "query label"], reference: Float[ndarray, "query label"]
) -> Bool[ndarray, " query"]:
    """Whether the same label is predicted: label loyalty before the mean (Label Words are Anchors, sec. 2.2)."""
    agree: ndarray = probs.argmax(axis=1) == reference.argmax(axis=1)
    return agree


def word_overlap(top: Int[ndarray, "query word"], reference: Int[ndarray, "query word"]) -> Float[ndarray, " query"]:
    """Jaccard overlap of two sets of most probable next words: word loyalty before the mean (sec. 2.2)."""
    common = (top[:, :, None] == reference[:, None, :]).any(axis=2).sum(axis=1)
    return common / (top.shape[1] + reference.shape[1] - common)


def auc_of_prediction(predicted: Int[ndarray, " query"], score: Float[ndarray, "query label"]) -> float:
    """Area under ROC of per-class scores for a prediction (Label Words are Anchors, sec. 2.3).

    Classes that are never predicted are dropped. With two classes left, the score of the second is used directly; with
    more, scores become shares and areas are averaged one-vs-one (macro). With one class or no scores, the area is nan.
    """
    classes = np.unique(predicted)
    kept = score[:, classes]
    if len(classes) < 2 or not np.isfinite(kept).all():
        return math.nan
    if len(classes) == 2:
        return area_under_roc(predicted == classes[1], kept[:, 1])
    shares = _shares(kept)
    areas = []
    for i, j in permutations(range(len(classes)), 2):
        of_pair = (predicted == classes[i]) | (predicted == classes[j])
        areas.append(area_under_roc(predicted[of_pair] == classes[i], shares[of_pair, i]))
    return float(np.mean(areas))


def auc_influence(predicted: Int[ndarray, " query"], score: Float[ndarray, "query label"]) -> Float[ndarray, " query"]:
    """The influence of each query on `auc_of_prediction` (DeLong et al. 1988); nan if the area is undefined.

    The square root of their sum of squares is the standard error of the area. Added over several areas on the same queries,
    influences give the standard error of the sum.
    """
    classes = np.unique(predicted)
    kept = score[:, classes]
    if len(classes) < 2 or not np.isfinite(kept).all():
        return np.full(len(predicted), math.nan)
    if len(classes) == 2:
        return _influence(predicted == classes[1], kept[:, 1])
    shares, found = _shares(kept), np.zeros(len(predicted))
    pairs = list(permutations(range(len(classes)), 2))
    for i, j in pairs:
        of_pair = (predicted == classes[i]) | (predicted == classes[j])
        found[of_pair] += _influence(predicted[of_pair] == classes[i], shares[of_pair, i]) / len(pairs)
    return found


def _shares(kept: Float[ndarray, "query label"]) -> Float[ndarray, "query label"]:
    total = kept.sum(axis=1, keepdims=True)
    shares: ndarray = np.divide(kept, total, out=np.full_like(kept, 1 / kept.shape[1]), where=total > 0)
    return shares


def _influence(truth: Bool[ndarray, " query"], score: Float[ndarray, " query"]) -> Float[ndarray, " query"]:
    """For each query: its share of won comparisons minus the area, divided by the number of queries on its side."""
    from scipy.stats import rankdata

    ranks, found = rankdata(score), np.zeros(len(truth))
    for side, sign in ((truth, 1), (~truth, -1)):
        own, others = int(side.sum()), int((~side).sum())
        won = (ranks[side] - rankdata(score[side])) / others
        found[side] = sign * (won - won.mean()) / math.sqrt(own * max(1, own - 1))
    return found


def area_under_roc(truth: Bool[ndarray, " query"], score: Float[ndarray, " query"]) -> float:
    """The probability that a true query scores above a false one, ties counting half (Mann-Whitney U). Both must occur."""
    from scipy.stats import rankdata

    n = int(truth.sum())
    return float((rankdata(score)[truth].sum() - n * (n + 1) / 2) / (n * (len(truth) - n)))


UNDEFINED_R = "R is undefined: AUCROC - 0.5 summed over the layers, {:.3f}, does not exceed its standard error, {:.3f}"


def too_small(whole: float, stderr: float) -> bool:
    """Whether a sum does not exceed its standard error (up to rounding), so that ratios to it are meaningless."""
    return bool(abs(whole) <= stderr * (1 + 1e-9))


def cumulative_contribution(areas: Sequence[float], stderr: float = 0.0) -> list[float]:
    """R_l = Σ_{i≤l} (AUCROC_i − 0.5) / Σ_i (AUCROC_i − 0.5) (sec. 2.3).

    nan if the sum over all layers does not exceed its standard error: a ratio to it would be meaningless.
    """
    above = np.cumsum(np.array(areas) - 0.5)
    if not len(above) or too_small(above[-1], stderr):
        return [math.nan] * len(above)
    contribution: list[float] = (above / above[-1]).tolist()
    return contribution


def contribution_of_mean(areas: Float[ndarray, "curve layer"]) -> tuple[list[float], list[float], float]:
    """R of the mean of several curves (not the mean of their R), its standard error, and the standard error of the mean's sum.

    Errors are jackknife estimates over curves. R is nan if the sum does not exceed its standard error.
    """
    n, whole = len(areas), (areas - 0.5).sum(axis=1)
    stderr = float(whole.std(ddof=1) / math.sqrt(n))
    found = cumulative_contribution(areas.mean(axis=0).tolist(), stderr)
    without = np.array([cumulative_contribution(np.delete(areas, i, axis=0).mean(axis=0).tolist()) for i in range(n)])
    errors = np.sqrt((n - 1) * without.var(axis=0)) + np.array(found) * 0
    return found, errors.tolist(), stderr


def pairwise_auc(labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"]) -> Float[ndarray, "label label"]:
    """AUC of p_i / p_j as a score that separates the queries of class i from those of class j (sec. 3.3); diagonal 1.

    nan for a class without queries.
    """
    found: ndarray = resampled_pairwise_auc(labels, probs, np.ones((1, len(labels)), dtype=int))[0]
    return found


def resampled_pairwise_auc(
    labels: Int[ndarray, " query"], probs: Float[ndarray, "query label"], counts: Int[ndarray, "resample query"]
) -> Float[ndarray, "resample label label"]:
    """`pairwise_auc` of resamples; `counts` gives how often each query occurs in each resample."""
    n = probs.shape[1]
    found = np.full((len(counts), n, n), math.nan)
    found[:, range(n), range(n)] = 1.0
    log_probs = np.log(np.maximum(probs, np.finfo(float).tiny))
    of_class = [np.flatnonzero(labels == c) for c in range(n)]
    for i in range(n):
        for j in range(i + 1, n):
            first, second = (log_probs[of_class[c], i] - log_probs[of_class[c], j] for c in (i, j))
            of_first, of_second = (counts[:, of_class[c]] for c in (i, j))
            above = first[:, None] - second
            won = ((of_first @ ((above > 0) + 0.5 * (above == 0))) * of_second).sum(axis=1)
            pairs = of_first.sum(axis=1) * of_second.sum(axis=1)
            found[:, i, j] = found[:, j, i] = np.where(pairs > 0, won / np.maximum(pairs, 1), math.nan)
    return found


def rank_correlation(first: Float[ndarray, " pair"], second: Float[ndarray, " pair"]) -> float:
    """Spearman's correlation over the pairs with both values; nan for fewer than three such pairs or a constant side."""
    from scipy.stats import spearmanr

    known = np.isfinite(first) & np.isfinite(second)
    first, second = first[known], second[known]
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(spearmanr(first, second).statistic)


def rank_correlations(
    first: Float[ndarray, "resample pair"], second: Float[ndarray, "resample pair"]
) -> Float[ndarray, " resample"]:
    """`rank_correlation` of each row."""
    from scipy.stats import rankdata

    whole = (np.isfinite(first) & np.isfinite(second)).all(axis=1)
    found = np.full(len(first), math.nan)
    found[~whole] = [rank_correlation(*both) for both in zip(first[~whole], second[~whole], strict=True)]
    if first.shape[1] >= 3 and whole.any():
        one, other = (rankdata(of[whole], axis=1) - (first.shape[1] + 1) / 2 for of in (first, second))
        spread = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
        together = (one * other).sum(axis=1)
        found[whole] = np.divide(together, spread, out=np.full_like(spread, math.nan), where=spread > 0)
    return found


def stack_probs(variants: Sequence[dict[str, object]]) -> Float[ndarray, "query label"]:
    """The label-word probabilities of the variants of several records."""
    return np.array([variant["probs"] for variant in variants], dtype=float)
