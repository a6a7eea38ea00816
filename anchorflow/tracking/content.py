"""What a W&B run holds: names to group by, settings to filter on, curves that overlay, tables, figures, artifacts."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from anchorflow.results import Curve, Result, Table
from anchorflow.tracking.base import Content, Names

LONGEST_TAG, LONGEST_NAME = 64, 128  # W&B refuses longer ones


def labels(names: Names, group: str | None, tags: Sequence[str]) -> dict[str, Any]:
    """The arguments of `wandb.init` by which people find a run."""
    cell = " ".join(names.cell)
    name = f"{cell[: LONGEST_NAME - 25]} seed{names.seed}"
    return {
        "name": name,
        "group": (group or (cell if names.replicates else name))[:LONGEST_NAME],
        "job_type": names.experiment,
        "tags": list(dict.fromkeys(tag[:LONGEST_TAG] for tag in [*names.cell, *tags] if tag)),
    }


def flat(config: Mapping[str, Any], names: Names, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration to filter and group by: the plain ones among the experiment's `settings` that change a number
    come to the top, and the names of experiment, model and dataset. Who is told of the run is left out.
    """
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping | list)}
    named = {f"{part}_name": name for part, name in zip(("experiment", "model", "dataset"), names.cell, strict=True)}
    return {**plain, **{key: value for key, value in config.items() if key not in ("tracking", "_target_")}, **named}


def write(run: Any, content: Content, names: Names, recorded: int) -> None:
    """Hand the content to a W&B run, without the rows of its history that are `recorded` already.

    What needs an answer of the server comes last, so that trouble with it costs no curve.
    """
    import wandb

    result, prefix = content.result, names.experiment
    if not names.replicates:
        result = replace(result, curves=_with_bands(result.curves))
    for axis, curves in _axes(result).items():
        run.define_metric(axis, hidden=True, summary="none")
        for name in curves:
            run.define_metric(f"{prefix}/{name}", step_metric=axis, summary="none")
    numbers = {**result.metrics, **{f"{name}_stderr": value for name, value in result.stderr.items()}}
    run.summary.update({f"{prefix}/{name}": float(value) for name, value in numbers.items() if _defined(value)})
    rows = _rows(result, prefix)
    for row in rows[recorded:]:
        run.log(row)
    if recorded <= len(rows):
        tables = {name: wandb.Table(["row", *t.columns], data=_with_names(t)) for name, t in result.tables.items()}
        tables["records"] = wandb.Table(list(content.sample.columns), data=[list(row) for row in content.sample.rows])
        figures = {f"figures/{path.stem}": wandb.Image(str(path)) for path in content.figures}
        run.log({**figures, **{f"tables/{name}": table for name, table in tables.items()}})
    for artifact, aliases in _artifacts(content, names):
        run.log_artifact(artifact, aliases=aliases)


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


def _axes(result: Result) -> dict[str, dict[str, Curve]]:
    axes: dict[str, dict[str, Curve]] = {}
    for name, curve in result.curves.items():
        axes.setdefault(curve.x, {})[name] = curve
    return axes


def _rows(result: Result, prefix: str) -> list[dict[str, float]]:
    """One row for each place on an axis, with the value there of every curve that has one."""
    rows = []
    for axis, curves in _axes(result).items():
        points = {name: dict(zip(curve.at, curve.values, strict=True)) for name, curve in curves.items()}
        for at in sorted({at for curve in curves.values() for at in curve.at}):
            there = {f"{prefix}/{name}": float(on[at]) for name, on in points.items() if _defined(on.get(at))}
            rows.append({axis: at, **there})
    return rows


def _with_names(table: Table) -> list[list[Any]]:
    return [[name, *map(float, values)] for name, values in zip(table.rows, table.values, strict=True)]


def _artifacts(content: Content, names: Names) -> list[tuple[Any, list[str]]]:
    """The data by its hashes (texts stay where they are), and what was learned from it."""
    import wandb

    dataset = wandb.Artifact(_safe(names.dataset), "dataset", metadata=dict(content.dataset))
    with dataset.new_file("dataset.json", mode="w", encoding="utf-8") as file:
        json.dump(content.dataset, file, ensure_ascii=False, indent=2, sort_keys=True)
    found: list[tuple[Any, list[str]]] = [(dataset, [])]
    for path in content.files:
        artifact = wandb.Artifact(_artifact_name(names, path.stem), path.stem, metadata=names.shown)
        # The file is not written again once a run is complete: no copy of it is needed.
        artifact.add_file(str(path), policy="immutable", skip_cache=True)
        found.append((artifact, [f"seed{names.seed}"]))
    return found


def _artifact_name(names: Names, what: str) -> str:
    """For what was learned in this cell; its seeds are versions of it."""
    return _safe("-".join([what, names.model, names.dataset]))


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:LONGEST_NAME]


def _defined(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
