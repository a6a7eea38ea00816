"""Which tests make a null hypothesis over several runs, and how it is told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anchorflow.report.cells import Cell, into_cells
from anchorflow.report.collect import collect
from anchorflow.report.views.label_relationships.hypotheses import (
    MARKS,
    Hypothesis,
    differences,
    heat_map,
    hypotheses,
    sheet,
)
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


def of_datasets(folder: Path, *runs: tuple[str, dict[str, Any], float]) -> list[Hypothesis]:
    """Hypotheses of runs that have tested one difference: the dataset, the settings, the p."""
    for number, (dataset, settings, p) in enumerate(runs):
        found = Result({"default_minus_random": 0.1, "default_minus_random_p": p})
        write_run(folder / str(number), "label_relationships", found, dataset=dataset, settings=settings)
    return hypotheses(into_cells(collect([folder]).runs)[0])


def corrected(found: Hypothesis) -> dict[str, float]:
    return {test.cell.dataset: round(test.corrected, 9) for test in found.tests}


MAIN = [
    ("sst2", {"n_demonstrations": 70, "instruction": "none", "at_most": 70}, 0.01),
    ("subj", {"n_demonstrations": 40, "instruction": "none", "at_most": 40}, 0.02),
    ("agnews", {"n_demonstrations": 30, "instruction": "none", "at_most": 30}, 0.04),
]
"""Holm over the three: 3 x 0.01, 2 x 0.02, 0.04."""


def test_a_family_spans_datasets_with_numbers_of_examples_of_their_own(tmp_path: Path) -> None:
    (found,) = of_datasets(tmp_path, *MAIN)
    assert (found.settings, corrected(found)) == ({}, {"sst2": 0.03, "subj": 0.04, "agnews": 0.04})


@pytest.mark.parametrize(
    ("pilot", "named"),
    [
        ({"n_demonstrations": 10, "instruction": "none", "at_most": 70}, {"n_demonstrations": "10"}),
        ({"n_demonstrations": 10, "instruction": "none", "at_most": 10}, {"n_demonstrations": "10", "at_most": "10"}),
        ({"n_demonstrations": 70, "instruction": "ignore", "at_most": 70}, {"instruction": "ignore"}),
    ],
)
def test_a_run_on_other_settings_is_a_family_of_its_own_and_changes_no_other(
    tmp_path: Path, pilot: dict[str, Any], named: dict[str, str]
) -> None:
    found = of_datasets(tmp_path, *MAIN, ("sst2", pilot, 0.5))
    main, alone = sorted(found, key=lambda one: -len(one.tests))
    assert corrected(main) == {"sst2": 0.03, "subj": 0.04, "agnews": 0.04}
    assert (alone.settings, corrected(alone)) == (named, {"sst2": 0.5})
    assert all(f"{name}={value}" in alone.title for name, value in named.items())


def test_runs_on_shorter_contexts_are_one_family(tmp_path: Path) -> None:
    halved = [{**settings, "n_demonstrations": settings["n_demonstrations"] // 2} for _, settings, _ in MAIN]
    short = [(dataset, settings, p) for (dataset, _, p), settings in zip(MAIN, halved, strict=True)]
    long, other = of_datasets(tmp_path, *short, *MAIN)
    assert (long.settings, corrected(long)) == ({}, {"sst2": 0.03, "subj": 0.04, "agnews": 0.04})
    assert (other.settings, len(other.tests)) == ({"n_demonstrations": "15/35/20"}, 3)


def test_change_points_of_one_dataset_are_families_of_their_own(tmp_path: Path) -> None:
    found = cells(
        tmp_path,
        ("sst2", ["flip_20"], {"flip_after_20_minus_x_at_40": 1}),
        ("sst2", ["flip_5"], {"flip_after_5_minus_x_at_10": 1}),
        ("trec", ["flip_8"], {"flip_after_8_minus_x_at_16": 2}),
    )
    told = [(one.settings, [test.name for test in one.tests]) for one in hypotheses(found)]
    assert told == [
        ({}, ["flip_after_20_minus_x_at_40", "flip_after_8_minus_x_at_16"]),
        ({"test": "flip_after_5_minus_x_at_10"}, ["flip_after_5_minus_x_at_10"]),
    ]


@pytest.mark.parametrize(
    ("accuracy", "likelihood", "fails"),
    [
        ((0.1, 0.01), (0.2, 0.01), False),
        ((0.1, 0.01), (-0.2, 0.01), False),  # biased towards one word, but right more often than guessing
        ((-0.1, 0.5), (0.2, 0.04), False),
        ((0.1, 0.06), (0.2, 0.3), True),  # above guessing, but by chance
        ((-0.1, 0.01), (-0.2, 0.01), True),
        ((NAN, NAN), (NAN, NAN), False),  # default labels were not run
    ],
)
def test_a_cell_is_grey_only_where_neither_accuracy_nor_likelihood_beats_guessing(
    tmp_path: Path, accuracy: tuple[float, float], likelihood: tuple[float, float], fails: bool
) -> None:
    late = {"default_minus_guessing_second_half": likelihood, "default_minus_guessing_accuracy_second_half": accuracy}
    metrics = {"default_minus_random": 0.1, "default_minus_random_p": 0.5}
    metrics |= {"default_minus_guessing": -9.0, "default_minus_guessing_p": 0.001}  # at one number of examples
    metrics |= {name: value for name, (value, _) in late.items()}
    metrics |= {f"{name}_p": p for name, (_, p) in late.items()}
    write_run(tmp_path / "run", "label_relationships", Result(metrics))
    found = {one.name: one for one in hypotheses(into_cells(collect([tmp_path]).runs)[0])}
    (test,) = found["default_minus_random"].tests
    assert (test.fails, str(test)) == (fails, "(+0.10)" if fails else "+0.10")


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
    assert int(np.ma.getmaskarray(axes.images[0].get_array()).sum()) == 5  # without a run, or undefined
    assert len(axes.patches) == 1  # default labels fail
    said = figure.get_supxlabel().replace("\n", " ")
    assert "Cells in brackets are hatched." in said
    assert "repetitions: 100." in said
    assert figure.axes[1].get_ylabel().replace("\n", " ") == "difference of log-likelihood, after all examples"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("default_minus_random_accuracy", "difference of accuracy, after all examples"),
        ("default_minus_flipped_entropy_second_half", "difference of entropy, over the second half of the examples"),
        ("flip_after_k_minus_x_at_2k", "difference of log-likelihood, at 2k examples"),
    ],
)
def test_a_colour_bar_says_what_differs_and_at_how_many_examples(name: str, said: str) -> None:
    assert Hypothesis(name, {}, []).of_what == said


def test_the_scale_is_that_of_all_cells_with_those_in_brackets(tmp_path: Path) -> None:
    metrics = {"a_minus_b": 0.25, "a_minus_b_p": 0.5, "default_minus_guessing": -0.1}
    write_run(tmp_path / "run", "label_relationships", Result(metrics))
    (found,) = hypotheses(into_cells(collect([tmp_path]).runs)[0])
    axes, bar = heat_map(found).axes
    assert [text.get_text() for text in axes.texts] == ["(+0.25)"]
    assert bar.get_ylim() == (-0.25, 0.25)
