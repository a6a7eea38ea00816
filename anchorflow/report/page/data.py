"""What the page shows, as JSON: numbers rounded, and no more of them than a page of 20 MB can hold."""

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from anchorflow.experiments.flows import FLOWS, FlowExample, read_examples
from anchorflow.report.cells import Cell
from anchorflow.report.collect import Collection, Run
from anchorflow.report.run_settings import typed
from anchorflow.report.tables.latex import SIGNS
from anchorflow.report.tables.overview import headline
from anchorflow.report.tables.sheets import Measured, Sheet, clean, written
from anchorflow.results import read_status
from anchorflow.settings import digest

DIGITS = 4
NUMBER_BYTES = 8
"""What a rounded number takes, with its comma."""
CURVES_BYTES, MATRICES_BYTES, EXAMPLES_BYTES = 5_000_000, 2_000_000, 4_000_000
POINTS = (10_000, 200, 100, 50, 25, 12)
"""How many points of a curve are kept: the first of these for which all curves fit."""
STRONGEST = (200, 100, 60)
"""How many flows of a layer are kept: the first for which the examples fit; with the last, further examples are left out."""
QUERY = 70
"""Signs of a query's text in the list of prompts."""
ROWS = 2000
"""How many rows of a table are shown."""
MOST_METRICS = 4
"""How many metrics the table of runs shows."""


def content(collection: Collection, cells: Sequence[Cell], sheets: Sequence[Sheet]) -> dict[str, Any]:
    """What assets/*.js read. Runs refer to cells, and cells to experiments, by their number."""
    runs = [(number, run) for number, cell in enumerate(cells) for run in cell.runs]
    experiments = list(dict.fromkeys(cell.experiment for cell in cells))
    thinned: list[str] = []
    most = _points([run for _, run in runs], thinned)
    with_matrices = _with_matrices([run for _, run in runs], thinned)
    examples, damaged = _examples(cells, [run for _, run in runs], thinned)
    axes: dict[tuple[float, ...], int] = {}
    metrics = {name: _metrics([cell for cell in cells if cell.experiment == name]) for name in experiments}
    of_runs = [
        {
            "id": _id(run),
            "cell": number,
            "seed": run.seed,
            "path": str(run.path),
            "url": read_status(run.path).get("url"),
            "queries": run.result.get("counts", {}).get(run.units),
            "metrics": [_measured(run, name) for name in metrics[run.experiment]],
            "curves": {name: _curve(curve, most, axes) for name, curve in run.result.get("curves", {}).items()},
            "matrices": _matrices(run) if id(run) in with_matrices else [],
        }
        for number, run in runs
    ]
    return {
        "experiments": [
            _experiment([cell for cell in cells if cell.experiment == name], metrics[name]) for name in experiments
        ],
        "cells": [
            {
                "experiment": experiments.index(cell.experiment),
                "model": cell.model,
                "dataset": cell.dataset,
                "settings": typed(cell.settings),
                "over": cell.over,
                "runs": len(cell.runs),
            }
            for cell in cells
        ],
        "runs": of_runs,
        "axes": [list(axis) for axis in axes],
        "examples": examples,
        "sheets": [_sheet(sheet) for sheet in sheets],
        "incomplete": [[str(run.path), run.reason] for run in collection.incomplete],
        "merged": list(collection.merged),
        "problems": [*collection.problems, *damaged],
        "thinned": thinned,
        "latex": SIGNS,
    }


def of_flows(
    experiment: str, model: str, dataset: str, seed: int, examples: Sequence[FlowExample], place: str
) -> dict[str, Any]:
    """The same of a page that shows the flow view of one run: all that is kept of its examples."""
    names = {"model": model, "dataset": dataset}
    run = {"id": "run", "cell": 0, "seed": seed, "path": place, "metrics": [], "curves": {}, "matrices": []}
    none: dict[str, list[Any]] = {
        name: [] for name in ("axes", "sheets", "incomplete", "merged", "problems", "thinned")
    }
    return {
        "experiments": [{"name": experiment, "runs": 1, "metrics": []}],
        "cells": [{"experiment": 0, **names, "settings": "", "over": "seeds", "runs": 1}],
        "runs": [run],
        "examples": [_example(0, example, STRONGEST[0], True) for example in examples],
        "latex": {},
        **none,
    }


def _id(run: Run) -> str:
    """What a link calls the run, in this report and in any other."""
    return digest([run.experiment, run.model, run.dataset, run.identity])[:8]


def _experiment(cells: Sequence[Cell], metrics: Sequence[str]) -> dict[str, Any]:
    """The metrics for the table of runs, and where the curves are drawn: a panel, a line's variant."""
    axes = {curve: found.x for cell in cells for curve, found in cell.result.curves.items()}
    view = cells[0].view
    curves = {
        curve: {**view.place_of(curve, [])._asdict(), "x": x, "of": view.contributions.get(curve)}
        for curve, x in axes.items()
    }
    return {
        "name": cells[0].experiment,
        "runs": sum(len(cell.runs) for cell in cells),
        "metrics": metrics,
        "curves": curves,
        "diagonal": list(view.diagonal),
        "panels": list(dict.fromkeys(curve["panel"] for curve in curves.values())),
        "variants": list(dict.fromkeys(curve["variant"] for curve in curves.values())),
    }


def _metrics(cells: Sequence[Cell]) -> list[str]:
    """The metrics of an experiment that the table of runs shows."""
    return list(dict.fromkeys(name for cell in cells for name in headline(cell)))[:MOST_METRICS]


def _measured(run: Run, name: str) -> list[float | None]:
    return [_short(run.result[key].get(name)) for key in ("metrics", "stderr") if key in run.result]


def _curve(curve: Mapping[str, Any], most: int, axes: dict[tuple[float, ...], int]) -> list[Any]:
    """[number of its axis, values, standard errors or None], thinned evenly to `most` places, the last among them."""
    length = len(curve["at"])
    kept = range(length)
    if length > most:
        kept = [round(i * (length - 1) / (most - 1)) for i in range(most)]  # type: ignore[assignment]
    axis = tuple(_short(curve["at"][i]) or 0 for i in kept)
    stderr = curve.get("stderr")
    return [
        axes.setdefault(axis, len(axes)),
        [_short(curve["values"][i]) for i in kept],
        None if stderr is None else [_short(stderr[i]) for i in kept],
    ]


def _points(runs: Sequence[Run], thinned: list[str]) -> int:
    """How many points of each curve fit."""
    curves = [curve for run in runs for curve in run.result.get("curves", {}).values()]

    def size(most: int) -> int:
        return sum(NUMBER_BYTES * min(len(c["at"]), most) * (1 + (c.get("stderr") is not None)) for c in curves)

    most = next((most for most in POINTS if size(most) <= CURVES_BYTES), POINTS[-1])
    longest = max((len(curve["at"]) for curve in curves), default=0)
    if longest > most:
        thinned.append(f"Curves of up to {longest} points are drawn with {most} of them; the tables use all.")
    return most


def _matrices(run: Run) -> list[dict[str, Any]]:
    """Tables from class to class."""
    return [
        {
            "heading": heading,
            "rows": table["rows"],
            "columns": table["columns"],
            "values": [[_short(value) for value in row] for row in table["values"]],
        }
        for name, heading in run.view.headings.items()
        if (table := run.result.get("tables", {}).get(name)) is not None
    ]


def _with_matrices(runs: Sequence[Run], thinned: list[str]) -> set[int]:
    """The runs (by id) whose matrices fit."""
    found: set[int] = set()
    room, left = MATRICES_BYTES, 0
    for run in runs:
        size = sum(
            NUMBER_BYTES * len(m["rows"]) * len(m["columns"]) + sum(map(len, m["rows"])) * 4 for m in _matrices(run)
        )
        room -= size
        if room >= 0:
            found.add(id(run))
        elif size:
            left += 1
    if left:
        thinned.append(
            f"The confusion matrices of {left} of {len(runs)} runs are left out; their result.json has them."
        )
    return found


def _examples(cells: Sequence[Cell], runs: Sequence[Run], thinned: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The examples that fit, those of every cell's first seed before those of its second; and damaged files."""
    numbers = {id(run): number for number, run in enumerate(runs)}
    in_turn = [run for turn in zip_longest(*(cell.runs for cell in cells)) for run in turn if run is not None]
    read: list[tuple[int, FlowExample]] = []
    problems: list[str] = []
    room, left = EXAMPLES_BYTES, 0
    for run in in_turn:
        if not run.view.flows:
            continue
        if room <= 0:
            left += 1
            continue
        found, damaged = read_examples(run.path)
        problems += damaged
        for example in found:
            room -= _size(example, STRONGEST[-1])
            if room > 0:
                read.append((numbers[id(run)], example))
    examples = [example for _, example in read]
    with_heads = sum(_size(e, STRONGEST[-1]) + _size_of_heads(e, STRONGEST[-1]) for e in examples) <= EXAMPLES_BYTES

    def size(most: int) -> int:
        return sum(_size(e, most) + with_heads * _size_of_heads(e, most) for e in examples)

    most = next((n for n in STRONGEST if size(n) <= EXAMPLES_BYTES), STRONGEST[-1])
    if not with_heads and any(example.heads for example in examples):
        thinned.append(
            "The heads of kept flows do not fit into the flow view; `anchorflow show RUN` has those of one run."
        )
    if most < STRONGEST[0]:
        thinned.append(f"The flow view draws up to {most} flows of a layer; the runs' examples hold more.")
    if room <= 0:
        thinned.append(f"Not all kept examples fit into the flow view: {left} runs have none there.")
    in_order = sorted(read, key=lambda pair: pair[0])
    return [_example(number, example, most, with_heads) for number, example in in_order], problems


def _size(example: FlowExample, most: int) -> int:
    flows = sum(min(most, len(layer)) for layer in example.strongest)
    return 2 * NUMBER_BYTES * flows + sum(6 * len(token) + 3 for token in example.tokens)


def _size_of_heads(example: FlowExample, most: int) -> int:
    return NUMBER_BYTES * sum(len(parts) for layer in example.heads for parts in layer[:most])


def _example(number: int, example: FlowExample, most: int, with_heads: bool) -> dict[str, Any]:
    names: dict[int, str] = {}
    demonstrations: list[dict[str, int]] = []
    for d in example.demonstrations:
        names.setdefault(d.label, "".join(example.tokens[i] for i in d.label_word).strip())
        tail = d.anchor  # where the formatting in front of the label word begins
        while tail - 1 in d.formatting and tail - 1 > d.start:
            tail -= 1
        demonstrations.append({"start": d.start, "stop": d.stop, "anchor": d.anchor, "tail": tail})
    last, tail = demonstrations[-1], demonstrations[0]["anchor"] - demonstrations[0]["tail"]
    asked = example.tokens[last["stop"] : len(example.tokens) - tail]  # without the formatting in front of the target
    anchors = {d.anchor for d in example.demonstrations}
    to_words, to_target, all_pairs = sum(anchors), len(anchors), len(example.tokens) * (len(example.tokens) - 1) // 2
    return {
        "run": number,
        "text": clean("".join(asked), QUERY),
        "query": example.query,
        "label": example.label,
        "names": [names.get(label, f"class {label}") for label in range(len(example.probs))],
        "probs": [_short(p) for p in example.probs],
        "tokens": list(example.tokens),
        "demonstrations": demonstrations,
        "layers": [
            [n for to, start, value in layer[:most] for n in (to, start, _short(value))] for layer in example.strongest
        ],
        "numbers": list(example.numbers),
        "totals": [_short(total) for total in example.totals],
        "signs": ["".join("-" if sign < 0 else "+" for sign in layer[:most]) for layer in example.signs],
        "heads": [
            [[_short(part) for part in parts] for parts in layer[:most]] for layer in example.heads if with_heads
        ],
        "pairs": [to_words, to_target, all_pairs - to_words - to_target],
        "means": [[_short(value) for value in example.means[flow]] for flow in FLOWS],
    }


def _sheet(sheet: Sheet) -> dict[str, Any]:
    rows = [[cell if isinstance(cell, str) else _cell(cell) for cell in row] for row in sheet.rows[:ROWS]]
    return {
        "name": sheet.name,
        "title": sheet.title,
        "columns": list(sheet.columns),
        "rows": rows,
        "more": len(sheet.rows) - len(rows),
        "notes": list(sheet.notes),
    }


def _cell(cell: float | Measured) -> Any:
    if isinstance(cell, Measured):
        return [_short(cell.value), _short(cell.stderr), cell.aside]
    return written(cell) if isinstance(cell, int) else _short(cell)


def _short(value: float | None) -> float | None:
    """The number with few digits; None for what is undefined."""
    if value is None or math.isnan(float(value)):
        return None
    rounded = float(f"{float(value):.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded
