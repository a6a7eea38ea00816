"""One family in every experiment: right, wrong, refused, traceback, or no oracle to judge by."""

from __future__ import annotations

import base64
import dataclasses
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

import anchorflow as af
from anchorflow.experiments import Experiment
from tests.families import build, made_up
from tests.families.expected import Expected
from tests.families.oracle import NoOracle
from tests.small_experiments import EXPERIMENTS

SEED, QUERIES = 42, 3
TOLERANCE = 1e-4
RIGHT, WRONG, REFUSED, TRACEBACK, NO_ORACLE, NOT_BUILT = (
    "right",
    "wrong",
    "refused",
    "traceback",
    "no oracle",
    "not built",
)
OUTCOMES = (RIGHT, WRONG, REFUSED, TRACEBACK, NO_ORACLE, NOT_BUILT)
Outcome = dict[str, str]
"""`outcome`, one of OUTCOMES, and `why`."""


def experiments() -> list[Experiment]:
    """The small experiments, on fewer queries."""
    few = {"n_queries": QUERIES}
    return [dataclasses.replace(e, **few) if hasattr(e, "n_queries") else e for e in EXPERIMENTS]  # type: ignore[type-var]


def judge(name: str) -> Iterator[tuple[str, Outcome]]:
    """Each experiment with its outcome; `model` alone where the family cannot be built."""
    logging.set_verbosity_error()
    task = made_up.task()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            lm, eager = build.pair(name)
            expected = Expected(eager, lm.tokenizer, task, SEED)
            alone = expected.records(experiments()[0])
        except Exception as error:
            yield "model", _outcome(NOT_BUILT, _said(error))
            return
        if len({round(p, 3) for named in alone.values() for p in named["full"]}) <= len(task.labels):
            yield "model", _outcome(NOT_BUILT, "it gives every query the same probabilities")
            return
        for experiment in experiments():
            outcome = _judged(experiment, lm, expected, task)
            yield experiment.name, outcome if outcome["outcome"] != WRONG else _settled(name, experiment, task, outcome)


def _settled(name: str, experiment: Experiment, task: Any, doubtful: Outcome) -> Outcome:
    """Whether what is wrong in float32 is so in float64, too, or was rounding (of small gradients, in OLMo)."""
    try:
        lm, eager = build.pair(name, dtype=torch.float64)
    except Exception:  # some families' code takes no float64
        return doubtful
    exact = _judged(experiment, lm, Expected(eager, lm.tokenizer, task, SEED), task)
    return _outcome(RIGHT, f"in float64: {exact['why']}") if exact["outcome"] == RIGHT else doubtful


def _judged(experiment: Experiment, lm: Any, expected: Expected, task: Any) -> Outcome:
    try:
        found = af.run(experiment, lm, task, seed=SEED).records
    except af.UserError as error:
        return _outcome(REFUSED, str(error))
    except Exception as error:
        return _outcome(TRACEBACK, _said(error))
    try:
        wanted = expected.records(experiment)
    except Exception as error:
        return _outcome(NO_ORACLE, f"the oracle fails: {_said(error)}")
    apart: dict[str, float] = {}
    missing = ""
    for record in found:
        numbers = _numbers(record)
        for key, value in wanted[record[experiment.unit.key]].items():
            if isinstance(value, NoOracle):
                missing = str(value)
            else:
                apart[key] = max(apart.get(key, 0.0), _apart(numbers.get(key), value, key))
    worst = max(apart, key=lambda key: apart[key])
    if apart[worst] > TOLERANCE:
        several = [key for key in apart if apart[key] > TOLERANCE]
        return _outcome(WRONG, f"{worst} by {apart[worst]:.2g} ({', '.join(several)[:150]})")
    return _outcome(NO_ORACLE, missing) if missing else _outcome(RIGHT, f"{apart[worst]:.1g}")


def _numbers(record: Any) -> dict[str, Any]:
    found = {name: variant["probs"] for name, variant in record.get("variants", {}).items()}
    found |= {name: np.exp(of["log_probabilities"]) for name, of in record.get("regimes", {}).items()}
    found |= {
        key: record[key] for key in ("label_attention", "anchor_products", "S_wp", "S_pq", "S_ww") if key in record
    }
    if "query_vectors" in record:
        found["query_vectors"] = [np.frombuffer(base64.b64decode(v), dtype="<f4") for v in record["query_vectors"]]
    return found


def _apart(found: Any, wanted: Any, key: str) -> float:
    """The largest difference; of the size of the numbers themselves, where these are no probabilities.

    Families differ in whether queries are scaled before their products with keys; a factor of a layer is free there.
    """
    if found is None or len(found) != len(wanted):
        return float("inf")
    a, b = (np.asarray(value, dtype=float) for value in (found, wanted))
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    if key in ("query_vectors", "anchor_products"):
        a, b = (x / np.maximum(np.abs(x).max(axis=-1, keepdims=True), 1e-12) for x in (a, b))
    scale = np.abs(b).max() if key.startswith("S_") else 1.0
    return float(np.abs(a - b).max() / max(scale, 1e-12))


def _said(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})"


def _outcome(outcome: str, why: str) -> Outcome:
    return {"outcome": outcome, "why": " ".join(why.split())[:400]}
