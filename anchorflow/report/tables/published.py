"""What the papers print, beside what runs of the same experiment, dataset and settings found."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import TypeAdapter

from anchorflow.report.cells import Cell, planes
from anchorflow.report.tables.sheets import Measured, Row, Sheet

FILE = Path(__file__).with_name("published.yaml")
MEAN = "mean"
"""Stands for a dataset where the paper prints the mean over all of its datasets."""


@dataclass(frozen=True)
class Figure:
    """Numbers of one table, of one model, by metric and dataset (or `mean`), as printed; `remark` is what may differ, too."""

    place: str
    experiment: str
    model: str
    settings: Mapping[str, int]
    unit: Literal["percent", "ratio", "tokens"]
    metrics: Mapping[str, Mapping[str, float]]
    remark: str | None = None
    label_words: list[str] | None = None


@dataclass(frozen=True)
class Paper:
    """What a paper prints, and the setting in which it was measured; `n_queries` names its datasets."""

    paper: str
    seeds: int
    n_queries: Mapping[str, int]
    label_words: Mapping[str, list[str]]
    figures: list[Figure] = field(default_factory=list)


@cache
def papers() -> list[Paper]:
    """The content of published.yaml."""
    return TypeAdapter(list[Paper]).validate_python(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def beside(cells: Sequence[Cell]) -> Sheet | None:
    """Ours, theirs and the difference (fractions); None where no run has a published counterpart.

    A run of the paper's own model is set beside that model, any other beside all of the paper's.
    """
    columns = [
        "printed in",
        "metric",
        "dataset",
        "model",
        "ours",
        "their model",
        "theirs",
        "difference",
        "what differs",
    ]
    rows = [row for paper in papers() for figure in paper.figures for row in _rows(paper, figure, cells)]
    cited = "; ".join(paper.paper for paper in papers())
    notes = [
        f"Printed in: {cited}. Fractions, but for speedup (a ratio) and tokens; the difference is ours minus theirs."
    ]
    return Sheet("published", "Published figures beside ours", columns, rows, notes) if rows else None


def _rows(paper: Paper, figure: Figure, cells: Sequence[Cell]) -> list[Row]:
    theirs = {f.model for f in paper.figures if (f.place, f.experiment) == (figure.place, figure.experiment)}
    fitting = [
        cell
        for cell in cells
        if _same_setting(paper, figure, cell) and (cell.model == figure.model or cell.model not in theirs)
    ]
    rows: list[Row] = []
    for _, plane in planes(fitting):
        for model in dict.fromkeys(cell.model for cell in plane):
            ours = [cell for cell in plane if cell.model == model]
            for metric, printed in figure.metrics.items():
                for dataset, number in printed.items():
                    chosen = [
                        cell for cell in ours if dataset in (cell.dataset, MEAN) and metric in cell.result.metrics
                    ]
                    if chosen:
                        found = _mean(chosen, metric)
                        value = number / 100 if figure.unit == "percent" else number
                        row: Row = [figure.place, metric, dataset, model, found, figure.model, value]
                        rows.append([*row, found.value - value, _differences(paper, figure, chosen, dataset)])
    return rows


def _same_setting(paper: Paper, figure: Figure, cell: Cell) -> bool:
    if cell.experiment != figure.experiment or cell.dataset not in paper.n_queries:
        return False
    run = cell.runs[0]
    words = figure.label_words or paper.label_words[cell.dataset]
    same = all(run.settings.get(name) == value for name, value in figure.settings.items())
    return same and run.result["config"]["dataset"].get("label_words") == words


def _mean(cells: Sequence[Cell], metric: str) -> Measured:
    """Over datasets, which are drawn independently."""
    values = [cell.result.metrics[metric] for cell in cells]
    errors = [cell.result.stderr.get(metric, math.nan) for cell in cells]
    return Measured(sum(values) / len(cells), math.sqrt(sum(error**2 for error in errors)) / len(cells))


def _differences(paper: Paper, figure: Figure, cells: Sequence[Cell], dataset: str) -> str:
    """In which ways our setting is not the paper's."""
    said = ["model"] if cells[0].model != figure.model else []
    if dataset == MEAN and len(cells) < len(paper.n_queries):
        said.append(f"{', '.join(cell.dataset for cell in cells)} alone")
    queries = [min(run.result.get("counts", {}).get("queries", 0) for run in cell.runs) for cell in cells]
    wanted = [paper.n_queries[cell.dataset] for cell in cells]
    if queries != wanted:
        ours, theirs = (" and ".join(map(str, dict.fromkeys(of))) for of in (queries, wanted))
        said.append(f"{ours} queries, not {theirs}")
    seeds = min(len(cell.runs) for cell in cells)
    if seeds != paper.seeds:
        said.append(f"{seeds} seed{'s' * (seeds > 1)}, not {paper.seeds}")
    if figure.remark:
        said.append(figure.remark)
    return "; ".join(said) or "nothing"
