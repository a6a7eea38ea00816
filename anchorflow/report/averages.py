"""Figures averaged over datasets, as in the papers: one panel per model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from anchorflow.report.cells import Cell, model_of
from anchorflow.report.drawing import known
from anchorflow.report.figures import named
from anchorflow.report.grids import Grid, panels_of, title, told
from anchorflow.report.run_settings import apart
from anchorflow.report.view import attempt
from anchorflow.results import Curve, Result
from anchorflow.settings import digest


def averages(cells: Sequence[Cell], settings: Mapping[str, Any], problems: list[str]) -> Iterator[Grid]:
    """The figures of one plane of cells; none if the view averages nothing, or for models on a single dataset."""
    average = cells[0].view.averaged
    if average is None:
        return
    rows = []
    shown: list[Cell] = []
    what = f"the mean over datasets of {cells[0].experiment}"
    for model, own in _of_models(cells).items():
        results = {cell.dataset: cell.result for cell in own}
        if len(results) < 2:
            continue
        if len(results) < len(own):
            problems.append(f"{what} is not drawn for {model}: it has several cells of one dataset")
            continue
        found = attempt(what, lambda results=results: average(results), problems)  # type: ignore[misc]
        if found is not None:
            rows.append([(f"{model}, mean over {', '.join(results)}", found)])
            shown += own
    for name, panel in panels_of(cells, problems).items() if rows else ():
        above = title(f"{name}, mean over datasets", panel, shown, settings)
        yield Grid(named(f"{name}_mean_over_datasets", settings), above, rows, panel)


def _of_models(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """The cells of each model; a name with several weights or precisions counts as several models."""
    found: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        found.setdefault(cell.model, {}).setdefault(digest(model_of(cell)), []).append(cell)
    return {
        ", ".join([model, *told(apart(model_of(own[0]), [model_of(other[0]) for other in variants.values()]))]): own
        for model, variants in found.items()
        for own in variants.values()
    }


def over_datasets(results: Mapping[str, Result]) -> Result:
    """The mean of the curves that all datasets have, with equal weights.

    Datasets are independent, so the standard error is √(Σ stderr²) / n. Values that are undefined for a dataset are left out of
    the mean at that position, with a note. The notes of the datasets are kept.
    """
    curves = {}
    said: dict[str, list[str]] = {}
    for dataset, result in results.items():
        for note in result.notes:
            said.setdefault(note, []).append(dataset)
    notes = [note if len(of) == len(results) else f"{', '.join(of)}: {note}" for note, of in said.items()]
    first, *others = results.values()
    for name, curve in first.curves.items():
        if not all(name in other.curves for other in others):
            continue
        at = [x for x in curve.at if all(x in other.curves[name].at for other in others)]
        found = {dataset: _at(result.curves[name], at) for dataset, result in results.items()}
        values, errors = (np.array([of[i] for of in found.values()]) for i in (0, 1))
        count = np.isfinite(values).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.nansum(values, axis=0) / count
            stderr = np.sqrt((np.where(np.isfinite(values), errors, 0) ** 2).sum(axis=0)) / count
        curves[name] = Curve(curve.x, at, means.tolist(), stderr.tolist())
        missing = [dataset for dataset, (of_values, _) in found.items() if np.isnan(of_values).any()]
        if missing:
            notes.append(f"{name} is partly undefined for {', '.join(missing)}, and left out of the mean there")
    return Result({}, curves=curves, notes=notes)


def _at(curve: Curve, places: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors at these positions."""
    index = [list(curve.at).index(x) for x in places]
    errors = np.full(len(curve.at), math.nan) if curve.stderr is None else known(curve.stderr)
    return known(curve.values)[index], errors[index]
