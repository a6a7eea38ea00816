"""Record a complete run that was not tracked, from its result.json, records and figures."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from anchorflow.experiments import REPETITION
from anchorflow.results import Result
from anchorflow.settings import SettingError, build, locate
from anchorflow.tracking.base import Content
from anchorflow.tracking.names import Names, name_run
from anchorflow.tracking.samples import MOST, Sample
from anchorflow.tracking.tracker import Tracking

log = logging.getLogger(__name__)


def tell_agent(tracker: Any, folder: Path) -> None:
    """Under `wandb agent`, report the metrics of an already complete run to the agent's own run: the sweep needs them.

    Elsewhere, and with another tracker, do nothing. A failure is one line in the log.
    """
    if "WANDB_SWEEP_ID" not in os.environ or not isinstance(tracker, Tracking):
        return
    try:
        record(folder, tracker)
    except Exception as error:
        log.warning("tracker: the agent's run could not be logged (%s: %s)", type(error).__name__, error)


def record(folder: Path, tracking: Tracking | None = None) -> None:
    """Record a run's directory as the run itself would have done, but without prompts, which are not kept.

    Without `tracking`, record offline, for the project in the run's own settings. ValueError or KeyError for a damaged
    result, OSError for unreadable files.
    """
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    config, names = found["config"], names_of(found)
    counted = found.get("identity_of", {}).get("experiment", config["experiment"])
    settings = {key: value for key, value in counted.items() if key not in ("_target_", "version")}
    whole = {**config, "identity": found["identity"], "data": found.get("data", {}).get("shown", names.dataset)}
    if revisions := found.get("environment", {}).get("revisions"):
        whole["revision"] = revisions[-1]
    content = Content(
        result=Result.from_json(found),
        sample=_sample(folder / "records.jsonl", found),
        dataset=_dataset(found, names),
        figures=sorted((folder / "figures").glob("*.png")),
        files=sorted(folder.glob("*.safetensors")),
        records=folder / "records.jsonl",
        described=found,
    )
    with (tracking or offline(config)).run(folder, found["identity"], whole, names, settings) as tracker:
        tracker.log(content)
        if (fault := tracker.fault) is not None:
            raise fault


def offline(config: Mapping[str, Any]) -> Tracking:
    """An offline tracker with the project, entity, group and tags of a run's configuration, if it names any."""
    try:
        node = {key: value for key, value in config["tracking"].items() if key != "_target_"}
        own = build(node, "tracking", Tracking)
    except (SettingError, LookupError, AttributeError):  # another tracker, or none
        return Tracking(mode="offline")
    return replace(own, mode="offline")


def names_of(found: Mapping[str, Any]) -> Names:
    """The names of a run, from its result.json."""
    config = found["config"]
    try:
        shared = locate(config["experiment"].get("_target_"), "experiment").unit.shared  # type: ignore[attr-defined]
    except (SettingError, AttributeError):  # a class that is no longer there
        shared = found.get("unit") == REPETITION.key
    return name_run(
        *(found["experiment"], config["model"]["name"], config["dataset"]["name"], found["seed"]),
        replicates=not shared,
        counts=found.get("identity_of", {}),
        dtype=config.get("dtype", "auto"),
    )


def _dataset(found: Mapping[str, Any], names: Names) -> dict[str, Any]:
    written = found.get("identity_of", {}).get("prompts", [])[1:]
    return {
        "name": names.dataset,
        **found.get("data", {}),
        **dict(zip(("template", "label_words", "separator"), written, strict=False)),
    }


def _sample(path: Path, found: Mapping[str, Any]) -> Sample:
    """The first records of queries, one row per variant, without their prompts."""
    written = found.get("identity_of", {}).get("prompts", [])[2:3]
    labels = [str(word).strip() for word in (written[0] if written else ())]
    key = found.get("unit", "query")
    rows: list[list[Any]] = []
    with path.open(encoding="utf-8") as file:
        for line, _ in zip(file, range(MOST), strict=False):
            each = json.loads(line)
            for variant, scores in each.get("variants", {}).items():
                probs = scores["probs"]
                best = probs.index(max(probs))
                named = [labels[i] if i < len(labels) else str(i) for i in (each["label"], best)]
                rows.append([each[key], variant, *named, best == each["label"], *probs])
    return Sample([key, "variant", "label", "prediction", "correct", *(f"p({label})" for label in labels)], rows)
