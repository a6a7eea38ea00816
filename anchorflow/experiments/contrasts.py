"""Tests of differences in label_relationships: at one number of examples, and over the second half of the curve.

A test at one number of examples ignores most of the curve. The mean over the second half is still one number per
repetition, so repetitions remain the units of the test (label relationships, "Power").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from anchorflow.results import Table, statistics
from anchorflow.results.statistics import Difference

SECOND_HALF = "second_half"
Scores = Mapping[str, Mapping[str, np.ndarray]]
"""By regime and measure: [repetition, number of examples]."""


class Comparison(NamedTuple):
    """Two curves, each (regime, measure), whose difference at one number of examples tests a null hypothesis."""

    name: str
    first: tuple[str, str]
    second: tuple[str, str]
    at: int


class Contrast(NamedTuple):
    """The difference of two curves, each (regime, measure), averaged over some numbers of examples."""

    name: str
    first: tuple[str, str]
    second: tuple[str, str]
    over: slice

    def apart(self, scores: Scores) -> np.ndarray:
        """The difference for each repetition."""
        first, second = (scores[regime][measure][:, self.over] for regime, measure in (self.first, self.second))
        found: np.ndarray = (first - second).mean(axis=1)
        return found


def second_half(n: int) -> slice:
    """The second half of a curve over `n` numbers of examples."""
    return slice(n // 2, n)


def contrasts(comparisons: Sequence[Comparison], n: int) -> list[Contrast]:
    """Every comparison in log-likelihood and in accuracy, at its number of examples and over the second half of the curve.

    A comparison at twice a change point has no second half: only there, both sides were shown equally often.
    """
    found = []
    for c in comparisons:
        place = slice(c.at, c.at + 1)
        suffix = f"_at_{c.at}" if c.name.endswith(f"_at_{c.at}") else ""
        for measure in ("", "_accuracy"):
            if measure and "entropy" in c.first[1]:
                continue
            name = f"{c.name.removesuffix(suffix)}{measure}" if measure else c.name.removesuffix(suffix)
            sides = [(regime, _in(of, measure)) for regime, of in (c.first, c.second)]
            found.append(Contrast(name + suffix, sides[0], sides[1], place))
            if not suffix:
                found.append(Contrast(f"{name}_{SECOND_HALF}", sides[0], sides[1], second_half(n)))
    return found


def _in(of: str, measure: str) -> str:
    return of.replace("log_likelihood", "accuracy") if measure else of


def outcomes(asked: Sequence[Contrast], scores: Scores) -> tuple[dict[str, Difference], dict[str, Table]]:
    """Paired t tests over repetitions by name, and the table `differences`, which adds a bootstrap over repetitions."""
    if not asked:
        return {}, {}
    apart = np.stack([test.apart(scores) for test in asked], axis=1)  # repetition, test
    found = {
        test.name: statistics.paired_difference(of_test, np.zeros(len(of_test)))
        for test, of_test in zip(asked, apart.T, strict=True)
    }
    columns = ["difference", "low", "high", "p", "bootstrap_low", "bootstrap_high", "bootstrap_p"]
    rows = [
        [t.mean, t.low, t.high, t.p, *drawn]
        for t, drawn in zip(found.values(), statistics.bootstrap_means(apart), strict=True)
    ]
    return found, {"differences": Table(list(found), columns, rows)}
