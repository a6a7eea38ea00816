"""What the repetitions of several runs say together, and each of them alone."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from anchorflow.experiments.label_relationships import LabelRelationships, measures
from anchorflow.report.collect import Run
from anchorflow.report.per_query import Scores, Unit, by_unit
from anchorflow.results import Record, Result
from anchorflow.settings import build


def pool(runs: Sequence[Run]) -> Result:
    """All seeds as one run: repetition r of a seed is the one with the seed + r, so that seeds share most of them."""
    repetitions: dict[int, Record] = {}
    for run in runs:
        for record in run.records():
            repetitions.setdefault(run.seed + record["repetition"], record)
    found = _experiment(runs[0]).reduce([repetitions[number] for number in sorted(repetitions)], ())
    return Result.from_json(found.to_json())


def scores(run: Run, records: Sequence[Record]) -> Scores:
    """Every measure at every number of examples, and the differences; a unit is a repetition (seed + number), its examples
    and its labels.
    """
    experiment = _experiment(run)
    units: list[Unit] = [(run.seed + r["repetition"], *r["examples"], *r["labels"]) for r in records]
    of = {regime.name: measures(records, regime) for regime in experiment.parsed}
    n, classes = len(records[0]["labels"]), len(records[0]["frequencies"])
    places = {"max": n - 1, **{str(at): at for at in range(n)}}
    found = {
        f"{regime}/{measure}_at_{place}": values[:, at]
        for regime, of_regime in of.items()
        for measure, values in of_regime.items()
        for place, at in places.items()
    }
    of["guessing"] = {"log_likelihood": np.full((len(records), n), run.result["metrics"]["guessing/log_likelihood"])}
    for c in experiment.comparisons(n, classes):
        first, second = (of[regime][measure][:, c.at] for regime, measure in (c.first, c.second))
        found[c.name] = first - second
    return {name: by_unit(units, values) for name, values in found.items()}


def _experiment(run: Run) -> LabelRelationships:
    """As it was run, with those of its settings that count."""
    known = {each.name for each in fields(LabelRelationships)}
    settings = {key: value for key, value in run.settings.items() if key in known}
    experiment: LabelRelationships = build(settings, "experiment", LabelRelationships)
    return experiment
