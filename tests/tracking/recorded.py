"""A run's content, and what W&B's own reader finds of it in a run directory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from anchorflow.results import Curve, Result, Table
from anchorflow.tracking import Content, Names
from anchorflow.tracking.samples import Sample

SETTINGS = {"shots_per_class": 1, "n_queries": 2, "ks": [1]}
NAMES = Names("saliency", "tiny", "sst2", 42, chosen={"n_queries": 2}, counted="0a1b2c3d")
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
DESCRIBED = {
    "environment": {"device": "cpu", "dtype": "float32", "git": "abc+", "packages": {"torch": "2"}, "layers": 4},
    "timing": {"run_s": 2.5},
    "counts": {"queries": 2, "skipped": 0},
}
HISTORY = [
    {"layer": 1, "depth": 0.25, "saliency/S_wp": 0.5, "saliency/S_pq": 0.25},
    {"layer": 2, "depth": 0.5, "saliency/S_wp": 0.75},
    {"confidence": 0.5, "saliency/other": 1.0},
]
CURVES = ("layer", "depth", "confidence", "saliency/S_wp", "saliency/S_pq", "saliency/other")


def content(folder: Path) -> Content:
    (folder / "beta.safetensors").write_bytes(b"weights")
    sample = Sample(["query", "prompt"], [[3, "Review: <script>alert(1)</script>"], [5, "ü\n"]])
    (folder / "records.jsonl").write_text('{"query": 3}\n')
    return Content(
        result=RESULT,
        sample=sample,
        dataset={"name": "sst2"},
        files=[folder / "beta.safetensors"],
        records=folder / "records.jsonl",
        described=DESCRIBED,
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
