"""Tables as in papers: models down, datasets across, one table per measure, the best of each dataset in bold."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from anchorflow.report.cells import Cell, by_place, planes
from anchorflow.report.figures import named
from anchorflow.report.grids import told
from anchorflow.report.tables.overview import headline, variants
from anchorflow.report.tables.sheets import LONG, Measured, Row, Sheet, clean

BEST = {
    **dict.fromkeys(("accuracy", "macro_f1", "label_loyalty", "word_loyalty", "spearman", "speedup"), max),
    "ece": min,
}
"""The function that picks the best number, for measures that have one; nothing else is in bold."""


def pivots(cells: Sequence[Cell]) -> Iterator[Sheet]:
    """A table of each headline measure of one experiment, for each of its conditions."""
    for settings, plane in planes(cells):
        rows: dict[tuple[str, str], dict[str, dict[str, Measured]]] = {}
        for (model, dataset), own in by_place(plane).items():
            for apart, cell in own:
                for variant, found in variants(cell).items():
                    row = rows.setdefault((", ".join(filter(None, [model, apart])), variant), {})
                    for measure, number in found.items():
                        row.setdefault(measure, {})[dataset] = number
        wanted = {name.rpartition("/")[2] for cell in plane for name in headline(cell)}
        for measure in dict.fromkeys(name for row in rows.values() for name in row if name in wanted):
            what = f"{plane[0].experiment}: {measure}"
            title = clean(", ".join([what, *told(settings)]), LONG)
            having = {row: found[measure] for row, found in rows.items() if measure in found}
            yield _pivot(named(f"{plane[0].experiment}_{measure}", settings), title, measure, having)


def _pivot(name: str, title: str, measure: str, rows: dict[tuple[str, str], dict[str, Measured]]) -> Sheet:
    datasets = sorted({dataset for row in rows.values() for dataset in row})
    best = {dataset: _best(measure, (row[dataset] for row in rows.values() if dataset in row)) for dataset in datasets}
    has_variants = any(variant for _, variant in rows)
    found: list[Row] = []
    for (model, variant), row in sorted(rows.items(), key=lambda one: one[0][0]):
        numbers = [row.get(dataset, Measured(math.nan)) for dataset in datasets]
        marked = [
            replace(number, best=number.value == best[dataset])
            for dataset, number in zip(datasets, numbers, strict=True)
        ]
        found.append([model, *[variant] * has_variants, *marked])
    return Sheet(name, title, ["model", *["variant"] * has_variants, *datasets], found)


def _best(measure: str, numbers: Iterable[Measured]) -> float:
    """The best number; nan if the measure has none, or there is no choice."""
    known = [number.value for number in numbers if not math.isnan(number.value)]
    return BEST[measure](known) if measure in BEST and len(known) > 1 else math.nan
