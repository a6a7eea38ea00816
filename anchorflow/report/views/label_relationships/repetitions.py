"""Pool the repetitions of several runs, and score each repetition."""

from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from anchorflow.experiments.contrasts import SECOND_HALF, contrasts, second_half
from anchorflow.experiments.label_relationships import LabelRelationships
from anchorflow.report.collect import Run
from anchorflow.report.per_query import Scores, Unit, by_unit
from anchorflow.results import Record, Result
from anchorflow.settings import build


def pool(runs: Sequence[Run]) -> Result:
    """Pool all seeds into one run: repetition r of a seed depends on seed + r, so seeds share most repetitions."""
    repetitions: dict[int, Record] = {}
    for run in runs:
        for record in run.records():
            repetitions.setdefault(run.seed + record["repetition"], record)
    found = _experiment(runs[0]).reduce([repetitions[number] for number in sorted(repetitions)], ())
    return Result.from_json(found.to_json())


def scores(run: Run, records: Sequence[Record]) -> Scores:
    """Every measure at every number of examples and over the second half of them, and the differences.

    A unit is a repetition (seed + number), its examples and its labels.
    """
    experiment = _experiment(run)
    units: list[Unit] = [(run.seed + r["repetition"], *r["examples"], *r["labels"]) for r in records]
    of = {regime.name: experiment.measured(records, regime) for regime in experiment.parsed}
    n, classes = len(records[0]["labels"]), len(records[0]["frequencies"])
    places = {
        "at_max": slice(n - 1, n),
        SECOND_HALF: second_half(n),
        **{f"at_{at}": slice(at, at + 1) for at in range(n)},
    }
    found = {
        f"{regime}/{measure}_{place}": values[:, over].mean(axis=1)
        for regime, of_regime in of.items()
        for measure, values in of_regime.items()
        for place, over in places.items()
    }
    of["guessing"] = {
        measure: np.full((len(records), n), run.result["metrics"][f"guessing/{measure}"])
        for measure in ("accuracy", "log_likelihood")
    }
    found |= {c.name: c.apart(of) for c in contrasts(experiment.comparisons(n, classes), n)}
    return {name: by_unit(units, values) for name, values in found.items()}


def _experiment(run: Run) -> LabelRelationships:
    """The experiment with the run's settings that change numbers."""
    known = {each.name for each in fields(LabelRelationships)}
    settings = {key: value for key, value in run.settings.items() if key in known}
    experiment: LabelRelationships = build(settings, "experiment", LabelRelationships)
    return experiment
