"""The scores behind a run's means: one for each query (or repetition), so that two runs can be paired by them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from anchorflow.experiments import LabelRelationships, variants
from anchorflow.experiments.label_relationships import measures
from anchorflow.report.collect import Run
from anchorflow.results import Record, metrics
from anchorflow.settings import build

Unit = tuple[Any, ...]
Scores = dict[str, np.ndarray]
"""By metric: [unit]"""


def scores(run: Run) -> dict[str, dict[Unit, float]]:
    """By metric the score of each unit, of all metrics that are a mean of such scores.

    A unit is told by its seed, row and label, or by its repetition (seed + number), examples and labels. UserError for
    damaged records; ValueError, LookupError or TypeError for such as the run's experiment does not write.
    """
    records = list(run.records())
    if run.experiment == "label_relationships":
        units = [(run.seed + r["repetition"], *r["examples"], *r["labels"]) for r in records]
        found = _of_repetitions(run, records)
    else:
        units = [(run.seed, r["query"], r["label"]) for r in records]
        found = _of_queries(run.result["metrics"], records)
    means = run.result["metrics"]
    return {
        name: dict(zip(units, values.tolist(), strict=True))
        for name, values in found.items()
        if name in means and means[name] is not None and _near(values.mean(), means[name])
    }


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def _of_queries(names: Mapping[str, Any], records: Sequence[Record]) -> Scores:
    truth = variants.truth(records)

    def right(variant: str) -> np.ndarray:
        return variants.probs(records, variant).argmax(axis=1) == truth

    def label_loyalty(variant: str) -> np.ndarray:
        return metrics.label_agreement(variants.probs(records, variant), variants.probs(records))

    def word_loyalty(variant: str) -> np.ndarray:
        return metrics.word_overlap(variants.top(records, variant), variants.top(records, "full"))

    of: dict[str, Callable[[str], np.ndarray]]
    of = {"accuracy": right, "label_loyalty": label_loyalty, "word_loyalty": word_loyalty}
    found = {}
    for name in names:
        variant, _, measure = name.rpartition("/")
        if measure in of:
            draws = _draws(records[0]["variants"], variant or "full")
            found[name] = np.mean([of[measure](draw) for draw in draws], axis=0, dtype=float)
    if "gain" in names:
        found["gain"] = right("reweighted").astype(float) - right("vanilla")
    return found


def _draws(written: Mapping[str, Any], variant: str) -> list[str]:
    """The variant and, of a control that was drawn several times, its other draws."""
    found = [variant]
    while (another := variants.draw_name(variant, len(found))) in written:
        found.append(another)
    return found


def _of_repetitions(run: Run, records: Sequence[Record]) -> Scores:
    experiment: LabelRelationships = build(run.result["config"]["experiment"], "experiment", LabelRelationships)
    of = {regime.name: measures(records, regime) for regime in experiment.parsed}
    n, classes = len(records[0]["labels"]), len(records[0]["frequencies"])
    found: Scores = {}
    for regime, of_regime in of.items():
        for measure, values in of_regime.items():
            places = {"max": n - 1, **{str(at): at for at in range(n)}}
            found |= {f"{regime}/{measure}_at_{place}": values[:, at] for place, at in places.items()}
    of["guessing"] = {"log_likelihood": np.full((len(records), n), run.result["metrics"]["guessing/log_likelihood"])}
    for c in experiment.comparisons(n, classes):
        first, second = (of[regime][measure][:, c.at] for regime, measure in (c.first, c.second))
        found[c.name] = first - second
    return found
