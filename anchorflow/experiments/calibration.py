"""Calibration of label-word probabilities: against the bias towards one word (label relationships, "Power")."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from anchorflow.errors import UserError


def named(given: Any) -> Any:
    """The setting as it is called now, where it was yes or no before."""
    return {False: "none", True: "content_free"}[given] if isinstance(given, bool) else given


def cross_fitted(
    scores: Float[ndarray, "repetition position word"],
) -> Float[ndarray, "repetition position word"]:
    """The log-probabilities without the mean over the *other* repetitions at their position, normalised again.

    No repetition takes part in its own calibration. UserError for a single one, which has no others.
    """
    if len(scores) < 2:
        raise UserError(
            "calibrate=per_position takes the mean over the other repetitions, and one alone was not skipped."
        )
    raw: ndarray = scores - (scores.sum(axis=0) - scores) / (len(scores) - 1)
    calibrated: ndarray = raw - np.logaddexp.reduce(raw, axis=2, keepdims=True)
    return calibrated
