"""The content of a W&B run: settings to filter by, curves that overlay, tables, figures, artifacts."""

import json
import math
from collections.abc import Mapping
from typing import Any

from anchorflow.results import Curve, Table
from anchorflow.settings import digest
from anchorflow.tracking.base import Content
from anchorflow.tracking.names import Names, safe, safe_artifact

PROVENANCE = ("device", "dtype", "weights", "git", "packages")
"""The fields of result.json's `environment` at the top level of a W&B run's config."""
MARK = "curves_hash"
"""The key in the summary of a hash that distinguishes the curves of a repeated run from the recorded ones."""


def flat(config: Mapping[str, Any], names: Names, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration to filter and group by, without the tracker's own settings.

    The experiment's scalar `settings` and the names of experiment, model, dataset and cell are at its top level.
    """
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping | list)}
    named = {f"{part}_name": name for part, name in names.shown.items() if part != "seed"}
    kept = {key: value for key, value in config.items() if key not in ("tracking", "_target_")}
    return {**plain, **kept, **named, "cell": names.cell}


def rows(content: Content, names: Names) -> list[dict[str, float]]:
    """One row per position on an axis, with the value of every curve there.

    A row of a layer also has its `depth`, the layer divided by the number of layers, on which models of any size overlay.
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
    """Log the content to a W&B run, except for the first `recorded` rows of its history.

    Calls that wait for the server come last, so that their failure loses no curve.
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
    """Each curve, and curves one standard error below and above it: a band that W&B cannot compute from seeds."""
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
    """Log the data, identified by its hashes and without texts, as input; the records and learned parameters as outputs."""
    import wandb

    dataset = wandb.Artifact(safe_artifact(names.dataset), "dataset", metadata=dict(content.dataset))
    with dataset.new_file("dataset.json", mode="w", encoding="utf-8") as file:
        json.dump(content.dataset, file, ensure_ascii=False, indent=2, sort_keys=True)
    # The same as use_artifact does with a new artifact; that function refuses to work offline.
    run._log_artifact(dataset, is_user_created=True, use_after_commit=True)
    of_cell = [names.model, names.dataset, names.counted]
    outputs = [(path.stem, [path], safe_artifact(path.stem, *of_cell)) for path in content.files]
    if content.records is not None:
        outputs.append(("records", [content.records], safe_artifact("records", names.experiment, *of_cell)))
    for kind, paths, name in outputs:
        artifact = wandb.Artifact(name, kind, metadata=names.shown)
        for path in paths:
            # The file of a complete run does not change: no copy is needed.
            artifact.add_file(str(path), policy="immutable", skip_cache=True)
        if kind == "records":
            with artifact.new_file("result.json", mode="w", encoding="utf-8") as file:
                json.dump(content.described, file, ensure_ascii=False, indent=2)
        run.log_artifact(artifact, aliases=[f"seed{names.seed}"])  # the seeds of a cell are versions of one artifact


def _defined(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
