"""Run directories with made-up numbers, as runs leave them behind."""

import json
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anchorflow import experiments
from anchorflow.report import views
from anchorflow.report.view import view_of
from anchorflow.results import Record, Result, dumps
from anchorflow.settings import digest

EXPERIMENTS = sorted(m.name for m in pkgutil.iter_modules(views.__path__) if view_of(m.name).figures is not None)
"""Those that have a view here."""


def write_run(
    folder: Path,
    experiment: str,
    result: Result,
    records: Sequence[Record] = (),
    *,
    model: str = "gpt2",
    dataset: str = "sst2",
    seed: int = 42,
    identity: str | None = None,
    settings: Mapping[str, Any] | None = None,
    **changed: Any,
) -> Path:
    """A complete run in `folder`; `settings` are the experiment's, `changed` replaces fields of result.json."""
    name = "".join(map(str.capitalize, experiment.split("_")))
    version = getattr(getattr(experiments, name, None), "version", "1")
    config = {
        "model": {"_target_": "anchorflow.models.Pretrained", "name": model, "path": model},
        "dataset": {"_target_": "anchorflow.data.Dataset", "name": dataset, "template": "{text}{label}"},
        "experiment": {
            "_target_": f"anchorflow.experiments.{name}",
            "version": version,
            **({"n_queries": 100} if settings is None else settings),
        },
        "too_long": "refuse",
        "seed": seed,
    }
    unit, units = ("repetition", "repetitions") if experiment == "label_relationships" else ("query", "queries")
    found = {
        "schema": 1,
        "experiment": experiment,
        "unit": unit,
        "identity": identity or digest([experiment, config]),
        "seed": seed,
        **result.to_json(),
        "counts": {units: 100, "skipped": 0},
        "config": config,
        "data": {"source": "directory", "revision": None, "sha256": {"test": dataset}},
        "environment": {"device": "cpu", "dtype": "float32", "weights": None},
        **changed,
    }
    folder.mkdir(parents=True)
    (folder / "records.jsonl").write_text("".join(dumps(record) + "\n" for record in records), encoding="utf-8")
    (folder / "result.json").write_text(json.dumps(found), encoding="utf-8")
    (folder / "status.json").write_text('{"state": "completed"}', encoding="utf-8")
    return folder


def write_unfinished(folder: Path, **status: Any) -> Path:
    """A run directory without a result."""
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"state": "running", **status}), encoding="utf-8")
    return folder
