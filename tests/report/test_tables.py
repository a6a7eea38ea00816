"""Which numbers belong together in a table over several runs."""

from collections.abc import Mapping
from pathlib import Path

from anchorflow.report.cells import Cell, into_cells
from anchorflow.report.collect import collect
from anchorflow.report.tables import differences, hypotheses
from anchorflow.results import Result
from tests.report.runs import write_run


def cells(folder: Path, *runs: tuple[str, list[str], Mapping[str, float]]) -> list[Cell]:
    """Cells of label_relationships: the dataset, its regimes, and its differences, each with a p."""
    for number, (dataset, regimes, found) in enumerate(runs):
        metrics = {**found, **{f"{name}_p": 0.01 for name in found}}
        settings = {"regimes": regimes, "n_demonstrations": 10}
        write_run(folder / str(number), "label_relationships", Result(metrics), dataset=dataset, settings=settings)
    found_cells, problems = into_cells(collect([folder]).runs)
    assert not problems
    return found_cells


def test_a_hypothesis_is_one_table_whatever_else_its_runs_had(tmp_path: Path) -> None:
    found = hypotheses(
        cells(
            tmp_path,
            ("sst2", ["default", "random"], {"default_minus_random": 0.1}),
            (
                "sst2",
                ["default", "flipped", "flip_20"],
                {"default_minus_flipped": 0.2, "flip_after_20_minus_x_at_40": 1},
            ),
            ("trec", ["default", "random", "flipped"], {"default_minus_random": 0.3, "default_minus_flipped": 0.4}),
            ("trec", ["flip_8"], {"flip_after_8_minus_x_at_16": 2, "flip_after_8_minus_x_at_9": 3}),
        )
    )
    told = {(test.name, *(f"{cell.dataset}:{name}" for cell, name in test.cells)) for test in found}
    assert told == {
        ("default_minus_random", "sst2:default_minus_random", "trec:default_minus_random"),
        ("default_minus_flipped", "sst2:default_minus_flipped", "trec:default_minus_flipped"),
        ("flip_after_k_minus_x_at_2k", "sst2:flip_after_20_minus_x_at_40", "trec:flip_after_8_minus_x_at_16"),
        ("flip_after_8_minus_x_at_9", "trec:flip_after_8_minus_x_at_9"),
    }
    assert all(not test.settings for test in found)


def test_what_several_runs_have_tested_is_one_test(tmp_path: Path) -> None:
    found = cells(
        tmp_path,
        ("sst2", ["default", "random"], {"default_minus_random": 0.1}),
        ("sst2", ["default", "random", "flipped"], {"default_minus_random": 0.1}),
        ("sst2", ["flip_2", "flip_4"], {"flip_after_2_minus_x_at_4": 0.1, "flip_after_4_minus_x_at_8": 0.1}),
        ("trec", ["default", "random"], {"default_minus_random": 0.1}),
    )
    names = [test.name for test in hypotheses(found)]
    assert names.count("default_minus_random") == 1
    assert {"flip_after_2_minus_x_at_4", "flip_after_4_minus_x_at_8"} < set(names)
    sheet = differences(found)
    assert sheet is not None
    rows = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
    corrected = {(row["regimes"], row["dataset"]): row["p over cells"] for row in rows if "random" in row["difference"]}
    assert corrected == {
        ('["default", "random"]', "sst2"): 0.02,
        ('["default", "random"]', "trec"): 0.02,
    }
