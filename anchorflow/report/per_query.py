"""The scores behind a run's means, one per query (or other unit), by which two runs can be paired."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from anchorflow.experiments import variants
from anchorflow.results import Record, metrics

if TYPE_CHECKING:
    from anchorflow.report.collect import Run

Unit = tuple[Any, ...]
"""What two runs must share for their scores to be a pair. Units that begin alike are a cluster: they share their
demonstrations (queries of a seed), and say less than as many independent ones."""
Scores = Mapping[str, Mapping[Unit, float]]
"""For each metric, the score of each unit."""


def scores(run: Run) -> dict[str, Mapping[Unit, float]]:
    """The score of each unit for all metrics that are means of such scores.

    UserError for damaged records; any other exception for records that are not in the experiment's format.
    """
    means = run.result["metrics"]
    return {
        name: found
        for name, found in run.view.scores(run, list(run.records())).items()
        if means.get(name) is not None and _near(float(np.mean(list(found.values()))), means[name])
    }


def of_predictions(run: Run, records: Sequence[Record]) -> Scores:
    """Accuracies and loyalties of records with predictions by variant; a unit is a seed, a number and a label."""
    names = run.result["metrics"]
    wanted = {name: name.rpartition("/") for name in names if name.rpartition("/")[2] in MEASURES}
    if not wanted:
        return {}
    units = [(run.seed, record[run.unit], record["label"]) for record in records]
    found = {}
    for name, (variant, _, measure) in wanted.items():
        draws = _draws(records[0]["variants"], variant or "full")
        found[name] = by_unit(units, np.mean([MEASURES[measure](records, draw) for draw in draws], axis=0, dtype=float))
    return found


def by_unit(units: Sequence[Unit], values: np.ndarray) -> dict[Unit, float]:
    """Map each unit to its score."""
    return dict(zip(units, values.tolist(), strict=True))


def right(records: Sequence[Record], variant: str) -> np.ndarray:
    """For each record, whether a variant predicts the true label."""
    found: np.ndarray = variants.probs(records, variant).argmax(axis=1) == variants.truth(records)
    return found


def _label_loyalty(records: Sequence[Record], variant: str) -> np.ndarray:
    return metrics.label_agreement(variants.probs(records, variant), variants.probs(records))


def _word_loyalty(records: Sequence[Record], variant: str) -> np.ndarray:
    return metrics.word_overlap(variants.top(records, variant), variants.top(records, "full"))


MEASURES: Mapping[str, Callable[[Sequence[Record], str], np.ndarray]] = {
    "accuracy": right,
    "label_loyalty": _label_loyalty,
    "word_loyalty": _word_loyalty,
}


def _draws(written: Mapping[str, Any], variant: str) -> list[str]:
    """The variant and, for a control with several draws, its other draws."""
    found = [variant]
    while (another := variants.draw_name(variant, len(found))) in written:
        found.append(another)
    return found


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
