"""A run that is finished and was not recorded: a recording from its result.json, its records and its figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anchorflow.experiments import REPETITION
from anchorflow.results import Result
from anchorflow.settings import SettingError, build, locate
from anchorflow.tracking.base import Content
from anchorflow.tracking.names import Names, name_run
from anchorflow.tracking.samples import MOST, Sample
from anchorflow.tracking.tracker import Tracking


def record(folder: Path, mode: str = "offline") -> None:
    """Record what lies in a run's directory, as the run would have done (but for the prompts, which it does not keep).

    ValueError or KeyError for a damaged result, OSError for files that cannot be read.
    """
    found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    config, names, counts = found["config"], _names(found), found.get("identity_of", {})
    settings = {k: v for k, v in counts.get("experiment", config["experiment"]).items() if k not in ("_target_", "version")}
    whole = {**config, "identity": found["identity"], "data": found.get("data", {}).get("shown", names.dataset)}
    content = Content(
        result=Result.from_json(found),
        sample=_sample(folder / "records.jsonl", found),
        dataset=_dataset(found, names),
        figures=sorted((folder / "figures").glob("*.png")),
        files=sorted(folder.glob("*.safetensors")),
        records=folder / "records.jsonl",
        described=found,
    )
    with _tracking(config, mode).run(folder, found["identity"], whole, names, settings) as tracker:
        tracker.log(content)
        if (fault := tracker.fault) is not None:
            raise fault


def _tracking(config: Mapping[str, Any], mode: str) -> Tracking:
    """As the run was told, whoever its tracker was."""
    try:
        told = build({key: value for key, value in config["tracking"].items() if key != "_target_"}, "tracking", Tracking)
        told = {"project": told.project, "entity": told.entity, "group": told.group, "tags": told.tags}
    except (SettingError, LookupError, AttributeError):  # another tracker, or none
        told = {}
    return Tracking(mode=mode, **told)


def _names(found: Mapping[str, Any]) -> Names:
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
    """The first records of queries, a row for each variant; without their prompts."""
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
