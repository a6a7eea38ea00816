"""Numbers and pictures of the documentation come from runs."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from anchorflow.report.cells import Cell, into_cells
from anchorflow.report.collect import collect
from anchorflow.results import Curve, Result
from tests.report.made_up import known, made_up
from tests.report.runs import write_run
from tests.results_page import (
    CLAIMS,
    DOCS,
    OF_REPORT,
    PART,
    PICTURES,
    Claim,
    parts,
    pictures,
    pictures_of_report,
    updated,
)

FLOWS = {"flow-smollm2-135m-sst2", "flow-smollm2-135m-trec", "flow-one-prompt"}
"""Of the page, and of examples/flow.py."""


def cells(folder: Path, results: Sequence[Result], experiment: str = "saliency") -> list[Cell]:
    for seed, result in enumerate(results):
        write_run(folder / str(seed), experiment, result, seed=seed)
    return into_cells(collect([folder]).runs)[0]


def test_a_claim_is_counted_over_seeds(tmp_path: Path) -> None:
    (cell,) = cells(
        tmp_path, [Result({"low": low, "high": high}) for low, high in ((0.1, 0.2), (0.3, 0.2), (0.2, 0.5))]
    )

    def both(result: Result) -> tuple[float, float]:
        return result.metrics["low"], result.metrics["high"]

    assert Claim("", both).of(cell) == "0.200 ± 0.058 against 0.30 ± 0.10 (2 of 3 seeds)"
    assert Claim("", both, tolerance=0.15).of(cell).endswith("(3 of 3 seeds)")
    assert Claim("", both, falls=True).of(cell).endswith("(1 of 3 seeds)")


def test_a_claim_is_not_counted_where_it_is_undefined_and_a_level_has_no_error(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, [Result({"r": r}) for r in (0.5, math.nan, -0.1)])
    said = Claim("", lambda result: (0, result.metrics["r"])).of(cell)
    assert said == "0 against 0.20 ± 0.30 (1 of 2 seeds, undefined in 1)"


def test_thirds_are_means_over_the_first_and_the_last_layers(tmp_path: Path) -> None:
    values = [0.8, 0.6, math.nan, 0.4, 0.3, 0.1]
    curves = {name: Curve("layer", range(1, 7), values) for name in ("S_wp_share", "S_pq_share")}
    found = parts(cells(tmp_path, [Result({}, curves=curves)]))["saliency"]
    assert found.count("0.700 against 0.200 (1 of 1 seed)") == 1  # S_wp, whose share falls
    assert found.count("0.700 against 0.200 (0 of 1 seed)") == 1
    assert "Made from 1 run of gpt2: 100 queries, seed 0, version" in found


def test_every_claim_is_in_its_table(tmp_path: Path) -> None:
    isolated = ("label_first_5", "label_last_5", "random_first_5")
    names = [f"{variant}/{measure}" for variant in isolated for measure in ("label_loyalty", "word_loyalty")]
    names += [f"{variant}/accuracy" for variant in ("vanilla", "reweighted", "full")]
    for experiment in CLAIMS:
        result = made_up(experiment, known(), classes=2)
        cells(
            tmp_path / experiment,
            [replace(result, metrics={**dict.fromkeys(names, 0.5), **result.metrics})],
            experiment,
        )
    metrics = {"default_minus_random": 0.1, "default_minus_random_p": 0.01}
    write_run(tmp_path / "labels", "label_relationships", Result(metrics, {"default_minus_random": 0.02}))
    found = parts(into_cells(collect([tmp_path]).runs)[0])
    assert found.keys() == {*CLAIMS, "label_relationships"}
    assert all(claim.sentence in found[name] for name, claims in CLAIMS.items() for claim in claims)
    assert r"+0.10\* ± 0.02" in found["label_relationships"]


def test_what_has_no_runs_stays(tmp_path: Path) -> None:
    page = "A\n<!-- results: saliency -->\nold\n<!-- end -->\nB\n<!-- results: isolation -->\nold\n<!-- end -->\n"
    found = updated(page, cells(tmp_path, [made_up("saliency", known(), classes=2)]))
    assert found.startswith("A\n<!-- results: saliency -->\n| claim of saliency |")
    assert found.endswith("<!-- end -->\nB\n<!-- results: isolation -->\nold\n<!-- end -->\n")


def test_pictures_are_figures_of_cells(tmp_path: Path) -> None:
    found = cells(tmp_path, [made_up("saliency", known(), classes=2)])
    assert [name for name, _ in pictures(found)] == ["saliency-smollm2-135m-sst2"]
    assert pictures_of_report(tmp_path) == {}


def test_the_page_has_a_part_for_every_experiment_and_every_picture_is_made_by_the_command() -> None:
    page = (DOCS / "results.md").read_text()
    assert [name for _, name, _ in PART.findall(page)] == [*CLAIMS, "label_relationships"]
    assert {path.stem for path in DOCS.rglob("*.png")} == {picture.file for picture in PICTURES} | {*OF_REPORT} | FLOWS


@pytest.mark.parametrize("picture", [picture for picture in PICTURES if not picture.regime], ids=lambda one: one.file)
def test_every_picture_is_a_figure_of_its_experiment(picture: object, tmp_path: Path) -> None:
    from tests.results_page import Picture

    assert isinstance(picture, Picture)
    result = made_up(picture.experiment, known(), classes=2)
    write_run(tmp_path / "run", picture.experiment, result, dataset=picture.dataset)
    assert picture.file in dict(pictures(into_cells(collect([tmp_path]).runs)[0]))
