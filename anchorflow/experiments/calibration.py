"""Calibrate label-word probabilities against a bias towards one word (label relationships, "Power")."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from anchorflow.errors import UserError


def named(given: Any) -> Any:
    """The current name of a setting that used to be true or false."""
    return {False: "none", True: "content_free"}[given] if isinstance(given, bool) else given


def cross_fitted(
    scores: Float[ndarray, "repetition position word"],
) -> Float[ndarray, "repetition position word"]:
    """The log-probabilities minus the mean over the *other* repetitions at the same position, renormalised.

    No repetition takes part in its own calibration. UserError for a single repetition.
    """
    if len(scores) < 2:
        raise UserError(
            "calibrate=per_position needs the mean over other repetitions, but all repetitions except one were skipped."
        )
    raw: ndarray = scores - (scores.sum(axis=0) - scores) / (len(scores) - 1)
    calibrated: ndarray = raw - np.logaddexp.reduce(raw, axis=2, keepdims=True)
    return calibrated
