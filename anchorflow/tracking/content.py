"""What a W&B run holds: settings to filter on, curves that overlay, tables, figures, artifacts."""

import json
import math
from collections.abc import Mapping
from typing import Any

from anchorflow.results import Curve, Table
from anchorflow.settings import digest
from anchorflow.tracking.base import Content
from anchorflow.tracking.names import Names, safe, safe_artifact

PROVENANCE = ("device", "dtype", "weights", "git", "packages")
"""Of result.json's `environment`, what the config of a W&B run holds at its top."""
MARK = "curves_hash"
"""In the summary: what tells the curves of a run that is made again from those that are there."""


def flat(config: Mapping[str, Any], names: Names, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration to filter and group by: the plain ones among the experiment's `settings` that change a number
    come to the top, and the names of experiment, model, dataset and cell. The tracker's own settings are left out.
    """
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping | list)}
    named = {f"{part}_name": name for part, name in names.shown.items() if part != "seed"}
    kept = {key: value for key, value in config.items() if key not in ("tracking", "_target_")}
    return {**plain, **kept, **named, "cell": names.cell}


def rows(content: Content, names: Names) -> list[dict[str, float]]:
    """One row for each place on an axis, with the value there of every curve that has one.

    A row of a layer has its `depth`, too: the layer by the number of layers, on which models of any size overlay.
    """
    found = []
    for axis, curves in _axes(_shown(content, names)).items():
        points = {name: dict(zip(curve.at, curve.values, strict=True)) for name, curve in curves.items()}
        places = sorted({at for curve in curves.values() for at in curve.at})
        layers = content.described.get("environment", {}).get("layers") or places[-1]
        for at in places:
            there = {names.number(name): float(on[at]) for name, on in points.items() if _defined(on.get(at))}
            depth = {"depth": at / layers} if axis == "layer" else {}
            found.append({safe(axis): at, **depth, **there})
    return found


def mark(content: Content, names: Names) -> str:
    """A hash of the curves."""
    return digest(rows(content, names))[:8]


def write(run: Any, content: Content, names: Names, recorded: int) -> None:
    """Hand the content to a W&B run, without the rows of its history that are `recorded` already.

    What needs an answer of the server comes last, so that trouble with it costs no curve.
    """
    import wandb

    result, described = content.result, content.described
    for axis, curves in _axes(_shown(content, names)).items():
        for each in (axis, "depth") if axis == "layer" else (axis,):
            run.define_metric(safe(each), hidden=True, summary="none")
        for name in curves:
            run.define_metric(names.number(name), step_metric=safe(axis), summary="none")
    environment = described.get("environment", {})
    known = {key: environment[key] for key in PROVENANCE if key in environment}
    if known:
        run.config.update(known, allow_val_change=True)  # device and dtype were auto
    numbers = {**result.metrics, **{f"{name}_stderr": value for name, value in result.stderr.items()}}
    run.summary.update({names.number(name): float(value) for name, value in numbers.items() if _defined(value)})
    for part in ("timing", "counts"):
        run.summary.update({f"{part}/{name}": value for name, value in described.get(part, {}).items()})
    run.summary.update({MARK: mark(content, names), "notes": "\n".join(result.notes)})
    found = rows(content, names)
    for row in found[recorded:]:
        run.log(row)
    if recorded <= len(found):
        tables = {name: wandb.Table(["row", *t.columns], data=_with_names(t)) for name, t in result.tables.items()}
        tables["records"] = wandb.Table(list(content.sample.columns), data=[list(row) for row in content.sample.rows])
        figures = {f"figures/{safe(path.stem)}": wandb.Image(str(path)) for path in content.figures}
        run.log({**figures, **{f"tables/{safe(name)}": table for name, table in tables.items()}})
    _write_artifacts(run, content, names)


def _shown(content: Content, names: Names) -> dict[str, Curve]:
    curves: dict[str, Curve] = dict(content.result.curves)
    return curves if names.replicates else _with_bands(curves)


def _with_bands(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Each curve, and one standard error below and above it: the band that W&B cannot draw from seeds."""
    found = {}
    for name, curve in curves.items():
        found[name] = curve
        if curve.stderr is not None:
            for edge, sign in (("low", -1), ("high", 1)):
                values = [value + sign * error for value, error in zip(curve.values, curve.stderr, strict=True)]
                found[f"{name}_{edge}"] = Curve(curve.x, curve.at, values)
    return found


def _axes(found: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    axes: dict[str, dict[str, Curve]] = {}
    for name, curve in found.items():
        axes.setdefault(curve.x, {})[name] = curve
    return axes


def _with_names(table: Table) -> list[list[Any]]:
    return [[name, *map(float, values)] for name, values in zip(table.rows, table.values, strict=True)]


def _write_artifacts(run: Any, content: Content, names: Names) -> None:
    """The data by its hashes (texts stay where they are) is an input; all records, and what was learned, are outputs."""
    import wandb

    dataset = wandb.Artifact(safe_artifact(names.dataset), "dataset", metadata=dict(content.dataset))
    with dataset.new_file("dataset.json", mode="w", encoding="utf-8") as file:
        json.dump(content.dataset, file, ensure_ascii=False, indent=2, sort_keys=True)
    # What use_artifact does with a new artifact, which refuses to do so offline.
    run._log_artifact(dataset, is_user_created=True, use_after_commit=True)
    of_cell = [names.model, names.dataset, names.counted]
    outputs = [(path.stem, [path], safe_artifact(path.stem, *of_cell)) for path in content.files]
    if content.records is not None:
        outputs.append(("records", [content.records], safe_artifact("records", names.experiment, *of_cell)))
    for kind, paths, name in outputs:
        artifact = wandb.Artifact(name, kind, metadata=names.shown)
        for path in paths:
            # The file is not written again once a run is complete: no copy of it is needed.
            artifact.add_file(str(path), policy="immutable", skip_cache=True)
        if kind == "records":
            with artifact.new_file("result.json", mode="w", encoding="utf-8") as file:
                json.dump(content.described, file, ensure_ascii=False, indent=2)
        run.log_artifact(artifact, aliases=[f"seed{names.seed}"])  # its seeds are versions of what a cell learned


def _defined(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
