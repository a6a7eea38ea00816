"""Which tests make a null hypothesis over several runs, and how it is told."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from anchorflow.report.cells import Cell, into_cells
from anchorflow.report.collect import collect
from anchorflow.report.views.label_relationships.hypotheses import MARKS, differences, heat_map, hypotheses, sheet
from anchorflow.results import Result
from tests.report.runs import write_run

NAN = float("nan")


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
    told = {(one.name, *(f"{test.cell.dataset}:{test.name}" for test in one.tests)) for one in found}
    assert told == {
        ("default_minus_random", "sst2:default_minus_random", "trec:default_minus_random"),
        ("default_minus_flipped", "sst2:default_minus_flipped", "trec:default_minus_flipped"),
        ("flip_after_k_minus_x_at_2k", "sst2:flip_after_20_minus_x_at_40", "trec:flip_after_8_minus_x_at_16"),
        ("flip_after_8_minus_x_at_9", "trec:flip_after_8_minus_x_at_9"),
    }
    assert all(not one.settings for one in found)


def test_what_several_runs_have_tested_is_one_test(tmp_path: Path) -> None:
    found = cells(
        tmp_path,
        ("sst2", ["default", "random"], {"default_minus_random": 0.1}),
        ("sst2", ["default", "random", "flipped"], {"default_minus_random": 0.1}),
        ("sst2", ["flip_2", "flip_4"], {"flip_after_2_minus_x_at_4": 0.1, "flip_after_4_minus_x_at_8": 0.1}),
        ("trec", ["default", "random"], {"default_minus_random": 0.1}),
    )
    tested = hypotheses(found)
    names = [one.name for one in tested]
    assert names.count("default_minus_random") == 1
    assert {"flip_after_2_minus_x_at_4", "flip_after_4_minus_x_at_8"} < set(names)
    table = differences(tested, found)
    assert table is not None
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    corrected = {(row["regimes"], row["dataset"]): row["p over cells"] for row in rows if "random" in row["difference"]}
    assert corrected == {
        ('["default", "random"]', "sst2"): 0.02,
        ('["default", "random"]', "trec"): 0.02,
    }


def test_a_hypothesis_over_models_and_datasets_is_corrected_and_marked(tmp_path: Path) -> None:
    def tested(model: str, dataset: str, difference: float, p: float, above: float) -> None:
        metrics = {"a_minus_b": difference, "a_minus_b_p": p, "default_minus_guessing": above}
        folder = tmp_path / f"{model}-{dataset}"
        write_run(folder, "label_relationships", Result(metrics), dataset=dataset, model=model)

    tested("small", "sst2", 0.25, 0.03, 0.2)
    tested("small", "$5", -0.5, 0.01, -0.1)
    tested("large", "sst2", 0.75, 0.001, 0.3)
    tested("large", "one repetition", 0.1, NAN, 0.4)
    tested("large", "undefined", NAN, NAN, 0.4)
    tested("large", "without default labels", 0.5, NAN, NAN)
    (found,) = hypotheses(into_cells(collect([tmp_path]).runs)[0])
    table = sheet(found)
    rows = {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert set(table.columns) == {"model", "sst2", "$5", "one repetition", "undefined", "without default labels"}
    assert {key: text for key, text in rows["small"].items() if text != "–"} == {
        "model": "small",
        "sst2": "+0.25*",
        "$5": "(-0.50*)",
    }
    assert {key: text for key, text in rows["large"].items() if text != "–"} == {
        "model": "large",
        "sst2": "+0.75*",
        "one repetition": "+0.10",
        "without default labels": "+0.50",
    }
    assert table.notes == [MARKS]
    corrected = {test.cell.place: test.corrected for test in found.tests}
    assert (corrected["small", "sst2"], corrected["small", "$5"]) == pytest.approx((0.03, 0.02))
    figure = heat_map(found)
    axes = figure.axes[0]
    assert sorted(text.get_text() for text in axes.texts) == sorted(str(t) for row in table.rows for t in row[1:])
    assert axes.images[0].get_clim() == (-0.75, 0.75)
    assert int(np.ma.getmaskarray(axes.images[0].get_array()).sum()) == 6  # without a run, or default labels fail
    assert len(figure.axes) == 2


def test_where_default_labels_fail_everywhere_there_is_no_colour_bar(tmp_path: Path) -> None:
    metrics = {"a_minus_b": 0.25, "a_minus_b_p": 0.5, "default_minus_guessing": -0.1}
    write_run(tmp_path / "run", "label_relationships", Result(metrics))
    (found,) = hypotheses(into_cells(collect([tmp_path]).runs)[0])
    assert [axes.texts[0].get_text() for axes in heat_map(found).axes] == ["(+0.25)"]
