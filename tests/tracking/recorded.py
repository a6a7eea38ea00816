"""A made-up result, and what W&B's own reader says of an offline recording."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from anchorflow.results import Curve, Result, Table
from anchorflow.tracking import Content, Names
from anchorflow.tracking.samples import Sample

SETTINGS = {"shots_per_class": 1, "n_queries": 2, "ks": [1]}
NAMES = Names("saliency", "tiny", "sst2", 42)
CONFIG = {
    "seed": 42,
    "model": {"_target_": "anchorflow.models.Tiny", "name": "tiny"},
    "experiment": {"_target_": "anchorflow.experiments.Saliency", "shots_per_class": 1, "n_queries": 2, "ks": [1]},
    "tracking": {"mode": "offline"},
}
RESULT = Result(
    metrics={"accuracy": 0.25, "undefined": float("nan")},
    stderr={"accuracy": 0.125},
    curves={
        "S_wp": Curve("layer", [1, 2], [0.5, 0.75]),
        "S_pq": Curve("layer", [1, 2], [0.25, None]),  # type: ignore[list-item]
        "other": Curve("confidence", [0.5], [1.0]),
    },
    tables={"confusion": Table(["no", "yes"], ["no", "yes"], [[1.0, 0.0], [0.5, 0.5]])},
)
HISTORY = [
    {"layer": 1, "saliency/S_wp": 0.5, "saliency/S_pq": 0.25},
    {"layer": 2, "saliency/S_wp": 0.75},
    {"confidence": 0.5, "saliency/other": 1.0},
]
CURVES = ("layer", "confidence", "saliency/S_wp", "saliency/S_pq", "saliency/other")


def content(folder: Path) -> Content:
    (folder / "beta.safetensors").write_bytes(b"weights")
    sample = Sample(["query", "prompt"], [[3, "Review: <script>alert(1)</script>"], [5, "ü\n"]])
    return Content(
        result=RESULT, sample=sample, dataset={"name": "sst2"}, files=[folder / "beta.safetensors"], figures=[]
    )


def inspect(folder: Path) -> list[dict[str, Any]]:
    """All that the offline runs in a run directory hold."""
    return [event for run in sorted((folder / "wandb").glob("offline-run-*")) for event in inspect_one(run)]


def inspect_one(run: Path) -> list[dict[str, Any]]:
    """All that can be read of an offline run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    done = subprocess.run(command, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event[kind] for event in events if event["type"] == kind]


def summary(events: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: value for update in of_kind(events, "summary") for key, value in update["update"].items()}


def history(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with something of a curve in them, and of these the curves."""
    rows = [{name: row["item"][name] for name in CURVES if name in row["item"]} for row in of_kind(events, "history")]
    return [row for row in rows if row]
