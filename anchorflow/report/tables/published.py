"""The papers' printed numbers next to those of our runs, with every difference between the settings.

Differences come from a run's identity and the provenance of its data, not from names. Runs of toy models and of few queries
are left out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter

from anchorflow.errors import UserError
from anchorflow.report.cells import Cell, planes
from anchorflow.report.collect import Run
from anchorflow.report.tables.sheets import Measured, Row, Sheet
from anchorflow.settings import defaults_of, digest, locate

FILE = Path(__file__).with_name("published.yaml")
MEAN = "mean"
"""The dataset name for the mean over all datasets of the paper."""
FEWEST = 100
"""The fewest queries of a run that is compared with a published number."""
TOYS = ("anchorflow.models.Tiny",)
"""Models with random weights."""
COUNTED = ("version", "n_queries")
"""Settings of an experiment that are not listed as differences: the number of queries already is."""


@dataclass(frozen=True)
class Figure:
    """Numbers of one table, of one model, by metric and dataset (or `mean`), as printed.

    `settings` are the experiment's settings that differ from its defaults; `only` lists the metrics that a setting affects and
    `remarks` differences in any case, both by the prefix of a metric's name. `label_words` are those of every dataset, if
    they are not the paper's usual ones.
    """

    place: str
    experiment: str
    model: str
    settings: Mapping[str, int | str]
    unit: Literal["percent", "ratio", "tokens"]
    metrics: Mapping[str, Mapping[str, float]]
    only: Mapping[str, str] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    label_words: list[str] | None = None


@dataclass(frozen=True)
class Data:
    """A dataset as used in the paper: its prompt, its splits, and how to find or recognise them."""

    template: str
    label_words: list[str]
    split: str
    queries: int
    train: int
    hub: list[str]
    test_content: str | None = None


@dataclass(frozen=True)
class Paper:
    """The numbers of a paper and the settings of its measurements; `weights` are the hub ids of its models."""

    paper: str
    seeds: int
    dtype: str
    separator: str
    weights: Mapping[str, str]
    datasets: Mapping[str, Data]
    figures: list[Figure] = field(default_factory=list)


@cache
def papers() -> list[Paper]:
    """The content of published.yaml."""
    return TypeAdapter(list[Paper]).validate_python(yaml.safe_load(FILE.read_text(encoding="utf-8")))


def beside(cells: Sequence[Cell]) -> Sheet | None:
    """Ours, theirs and the difference (fractions); None if no run has a published counterpart.

    A run of a model from the paper is compared with that model, any other run with all models of the paper; a number of
    demonstrations that the paper lacks is compared with the nearest one.
    """
    columns = [
        *("printed in", "metric", "dataset", "model", "ours", "their model", "theirs", "difference"),
        "what differs",
    ]
    rows = [row for paper in papers() for row in _of_paper(paper, cells)]
    cited = "; ".join(paper.paper for paper in papers())
    notes = [
        f"Printed in: {cited}. Fractions, but for speedup (a ratio) and tokens; the difference is ours minus theirs.",
        f"Left out: models with random weights, and runs of fewer than {FEWEST} queries.",
    ]
    return Sheet("published", "Published figures and ours", columns, rows, notes) if rows else None


def _of_paper(paper: Paper, cells: Sequence[Cell]) -> Iterator[Row]:
    known = [cell for cell in cells if _task(cell) in paper.datasets and not _is_toy(cell) and _queries(cell) >= FEWEST]
    for figure in paper.figures:
        theirs = {f.model for f in paper.figures if (f.place, f.experiment) == (figure.place, figure.experiment)}
        fitting = [
            cell
            for cell in known
            if cell.experiment == figure.experiment
            and figure in _nearest(paper, cell)
            and (_model(paper, cell) == figure.model or _model(paper, cell) not in theirs)
        ]
        for together in _groups(fitting):
            yield from _rows(paper, figure, together)


def _groups(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Groups of cells that differ only in the dataset; single cells if a dataset comes from several sources."""
    for _, plane in planes(cells):
        alike: dict[tuple[str, Any], list[Cell]] = {}
        for cell in plane:
            alike.setdefault((cell.model, _shots(cell)), []).append(cell)
        for group in alike.values():
            once = len({*map(_task, group)}) == len(group)
            yield from [group] if once else ([cell] for cell in group)


def _rows(paper: Paper, figure: Figure, cells: Sequence[Cell]) -> Iterator[Row]:
    for metric, printed in figure.metrics.items():
        for dataset, number in printed.items():
            chosen = [cell for cell in cells if dataset in (_task(cell), MEAN) and metric in cell.result.metrics]
            if chosen:
                found = _mean(chosen, metric)
                value = number / 100 if figure.unit == "percent" else number
                shown = dataset if dataset == MEAN else chosen[0].dataset
                row: Row = [figure.place, metric, shown, chosen[0].model, found, figure.model, value]
                said = _differences(paper, figure, metric, chosen, dataset)
                yield [*row, found.value - value, "; ".join(said) or "nothing"]


def _nearest(paper: Paper, cell: Cell) -> list[Figure]:
    """The paper's numbers that are nearest to the cell in label words and, then, in the number of demonstrations."""
    task, words, shots = _task(cell), _prompt(cell)[1], _shots(cell)

    def distance(figure: Figure) -> tuple[bool, float, Any]:
        theirs = figure.settings["shots_per_class"]
        assert isinstance(theirs, int)
        return (figure.label_words or paper.datasets[task].label_words) != words, abs(theirs - shots), theirs

    of_experiment = [
        figure
        for figure in paper.figures
        if figure.experiment == cell.experiment and any({task, MEAN} & set(of) for of in figure.metrics.values())
    ]
    least = min(map(distance, of_experiment), default=None)
    return [figure for figure in of_experiment if distance(figure) == least]


def _mean(cells: Sequence[Cell], metric: str) -> Measured:
    """The mean over datasets, which are independent."""
    values = [cell.result.metrics[metric] for cell in cells]
    errors = [cell.result.stderr.get(metric, math.nan) for cell in cells]
    return Measured(sum(values) / len(cells), math.sqrt(sum(error**2 for error in errors)) / len(cells))


def _differences(paper: Paper, figure: Figure, metric: str, cells: Sequence[Cell], dataset: str) -> list[str]:
    """The differences between our settings and the paper's."""
    said = [_of_model(paper, figure, cells[0])]
    if dataset == MEAN and len(cells) < len(paper.datasets):
        said.append(f"{', '.join(map(_task, cells))} alone")
    for cell in cells:
        said += [*_of_data(paper, cell), *_of_prompt(paper, figure, cell)]
    queries, wanted = [_queries(cell) for cell in cells], [paper.datasets[_task(cell)].queries for cell in cells]
    if queries != wanted:
        said.append(f"{_listed(queries)} queries, not {_listed(wanted)}")
    seeds = min(len(cell.runs) for cell in cells)
    if seeds != paper.seeds:
        said.append(f"{seeds} seed{'s' * (seeds > 1)}, not {paper.seeds}")
    dtypes = [_dtype(run) for cell in cells for run in cell.runs]
    if set(dtypes) != {paper.dtype}:
        said.append(f"{_listed(dtypes)}, not {paper.dtype}")
    for cell in cells:
        said += _of_settings(figure, metric, cell)
    said += [remark for begin, remark in figure.remarks.items() if metric.startswith(begin)]
    return [sentence for sentence in dict.fromkeys(said) if sentence]


def _of_model(paper: Paper, figure: Figure, cell: Cell) -> str:
    if _model(paper, cell) != figure.model:
        return f"model ({cell.model})"
    found = _identity(cell.runs[0], "model")
    here = found.get("hub") or (f"files {digest(found['files'])[:8]}" if "files" in found else "not recorded")
    more = [str(found[key]) for key in ("revision", "quantization") if found.get(key) is not None]
    theirs = paper.weights[figure.model]
    return f"weights ({', '.join([here, *more])}, not {theirs})" if more or here != theirs else ""


def _of_data(paper: Paper, cell: Cell) -> Iterator[str]:
    """Differences in the queries and in the size of the train split."""
    theirs, run = paper.datasets[_task(cell)], cell.runs[0]
    data = run.result.get("data", {})
    config = run.result["config"]["dataset"].get("hub") or {}
    from_hub = data.get("source") == "hub" and config.get("id") in theirs.hub and data.get("split") == theirs.split
    recognised = theirs.test_content is not None and data.get("test_content") == theirs.test_content
    hashed = digest(data.get("sha256"))[:8]
    if not from_hub and not recognised:
        yield f"data ({cell.dataset}, {data.get('split') or 'no official'} split, hash {hashed})"
    trained = data.get("examples", {}).get("train")
    if trained != theirs.train:
        yield f"train split of {trained} examples, not {theirs.train}"


def _of_prompt(paper: Paper, figure: Figure, cell: Cell) -> Iterator[str]:
    theirs = paper.datasets[_task(cell)]
    template, words, separator = _prompt(cell)
    if template != theirs.template:
        yield f"template {template!r}"
    if separator != paper.separator:
        yield f"separator {separator!r}"
    if words != (figure.label_words or theirs.label_words):
        yield f"label words {', '.join(word.strip() for word in words)}"


def _of_settings(figure: Figure, metric: str, cell: Cell) -> Iterator[str]:
    """The settings of the experiment that differ from the paper's or, if it names none, from the default."""
    found = _identity(cell.runs[0], "experiment") or cell.runs[0].result["config"]["experiment"]
    ours = {name: value for name, value in cell.runs[0].settings.items() if name not in COUNTED}
    try:
        defaults = defaults_of(locate(found.get("_target_"), "experiment"))
    except UserError:  # an experiment of another version
        defaults = ours
    for name in dict.fromkeys((*figure.settings, *ours)):
        theirs = figure.settings.get(name, defaults.get(name))
        # A run from before the setting existed behaved like its default.
        value = ours.get(name, defaults.get(name, theirs))
        if value != theirs and metric.startswith(figure.only.get(name, "")):
            if name == "shots_per_class":
                yield f"{value} demonstration{'s' * (value != 1)} per class, not {theirs}"
            else:
                yield f"{name}={value}, not {theirs}"


def _model(paper: Paper, cell: Cell) -> str:
    """The paper's name for the cell's model, whatever its variant or source; else the cell's own."""
    hub = _identity(cell.runs[0], "model").get("hub")
    for name, weights in paper.weights.items():
        if hub == weights or (hub is None and cell.model.split("/")[-1] in (name, weights.split("/")[-1])):
            return name
    return cell.model


def _is_toy(cell: Cell) -> bool:
    return (_identity(cell.runs[0], "model") or cell.runs[0].result["config"]["model"]).get("_target_") in TOYS


def _task(cell: Cell) -> str:
    """The dataset's name, without the content of its source."""
    return str(cell.runs[0].result["config"]["dataset"]["name"])


def _shots(cell: Cell) -> int:
    return int(cell.runs[0].settings.get("shots_per_class", 0))


def _prompt(cell: Cell) -> tuple[str, list[str], str]:
    """Template, label words and separator."""
    _, *shown = _identity(cell.runs[0], "prompts") or (None,)
    config = cell.runs[0].result["config"]["dataset"]
    if len(shown) == 3:
        return shown[0], shown[1], shown[2]
    separator = config.get("separator")
    return str(config.get("template")), config.get("label_words") or [], "\n" if separator is None else separator


def _queries(cell: Cell) -> int:
    return min(run.result.get("counts", {}).get("queries", 0) for run in cell.runs)


def _dtype(run: Run) -> str:
    return str(_identity(run, "dtype") or run.result.get("environment", {}).get("dtype"))


def _identity(run: Run, what: str) -> Any:
    """A part of the content that the run's identity hashes; empty in results of older versions."""
    return run.result.get("identity_of", {}).get(what, {})


def _listed(values: Sequence[object]) -> str:
    return " and ".join(map(str, dict.fromkeys(values)))
