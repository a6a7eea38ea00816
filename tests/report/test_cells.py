"""Runs become cells: what differs is told, seeds are averaged, repetitions of overlapping seeds count once."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anchorflow.experiments import LabelRelationships
from anchorflow.report.cells import Cell, into_cells, mean, planes
from anchorflow.report.collect import Run, collect
from anchorflow.report.run_settings import shared_settings
from anchorflow.report.view import view_of
from anchorflow.results import Curve, Record, Result, Table
from anchorflow.results.metrics import cumulative_contribution
from tests.report.runs import write_run

NAN = math.nan


def cells_of(tmp_path: Path) -> list[Cell]:
    cells, problems = into_cells(collect([tmp_path]).runs)
    assert problems == []
    return cells


def test_seeds_of_one_setting_are_a_cell(tmp_path: Path) -> None:
    for seed, accuracy in ((42, 0.5), (43, 0.25), (44, 0.75)):
        result = Result({"accuracy": accuracy}, {"accuracy": 0.01})
        write_run(tmp_path / str(seed), "classification", result, seed=seed)
    write_run(tmp_path / "other", "classification", Result({"accuracy": 0.1}, {"accuracy": 0.02}), dataset="trec")
    first, second = cells_of(tmp_path)
    assert (first.place, first.settings, first.over, len(first.runs)) == (("gpt2", "sst2"), {}, "seeds", 3)
    assert first.result.metrics == {"accuracy": 0.5}
    assert first.result.stderr["accuracy"] == pytest.approx(0.25 / math.sqrt(3))
    assert (second.place, second.over) == (("gpt2", "trec"), "queries")
    assert second.result.stderr == {"accuracy": 0.02}


@pytest.mark.parametrize("what", ["model", "prompts", "experiment"])
def test_runs_whose_files_were_exchanged_between_them_are_not_averaged(tmp_path: Path, what: str) -> None:
    counted = {
        "model": [{"files": "a"}, {"files": "b"}],
        "prompts": [["local", "{text}:{label}", [" A", " B"], "\n"], ["local", "{text}:{label}", [" A", " C"], "\n"]],
        "experiment": [{"beta": "a"}, {"beta": "b"}],
    }
    for seed, of in zip((42, 43), counted[what], strict=True):
        settings = {"beta": "a/file"}
        result = Result({"accuracy": 0.5})
        write_run(tmp_path / str(seed), "reweighting", result, seed=seed, settings=settings, identity_of={what: of})
    assert [len(cell.runs) for cell in cells_of(tmp_path)] == [1, 1]
    assert all(cell.settings for cell in cells_of(tmp_path))


def test_settings_that_differ_are_told_and_others_are_not(tmp_path: Path) -> None:
    def run(name: str, settings: dict[str, Any], **more: Any) -> None:
        write_run(tmp_path / name, "classification", Result({"accuracy": 0.5}), settings=settings, **more)

    run("a", {"shots_per_class": 1, "words": ["x"]})
    run("b", {"shots_per_class": 2, "words": ["x"]})
    run("c", {"shots_per_class": 1, "words": ["x"]}, model="gpt2-xl", environment={"dtype": "bfloat16"})
    run("d", {"shots_per_class": 1, "words": ["x"]}, dataset="trec", seed=43)
    write_run(tmp_path / "e", "saliency", Result({"accuracy": 0.5}), settings={"shots_per_class": 3})
    found = {(cell.experiment, *cell.place, *cell.settings.items()) for cell in cells_of(tmp_path)}
    one, two, float32 = ("shots_per_class", "1"), ("shots_per_class", "2"), ("dtype", "float32")
    assert found == {
        ("classification", "gpt2", "sst2", one, float32),
        ("classification", "gpt2", "sst2", two, float32),
        ("classification", "gpt2-xl", "sst2", one, ("dtype", "bfloat16")),
        ("classification", "gpt2", "trec", one, float32),
        ("saliency", "gpt2", "sst2"),
    }


def _shared(runs: Sequence[Run]) -> dict[str, str]:
    return {setting: value for of, setting, value in shared_settings(runs) if of == "echo"}


def test_settings_are_those_that_a_run_says_count_as_they_were_decided(tmp_path: Path) -> None:
    def run(name: str, counted: dict[str, Any], **metrics: float) -> None:
        settings = {"shards": 4, "keep_examples": 3, "written": "in the configuration", "lr": 0.1}
        of = {"experiment": {"_target_": "own.Echo", **counted}}
        names = {"identity": name, "seed": ord(name)}
        write_run(tmp_path / name, "echo", Result({"x": 0.5, **metrics}), settings=settings, identity_of=of, **names)

    run("a", {"version": "1", "layer": None, "lr": 0.5, "unit": "ms", "at_most": None}, layer=4)
    run("b", {"version": "2", "layer": None, "lr": 0.5, "unit": "ms"}, layer=6)
    run("c", {"layer": 4, "lr": 0.5, "unit": "ms"}, layer=math.nan)
    cells = cells_of(tmp_path)
    assert [dict(cell.settings) for cell in cells] == [{"version": "1", "layer": "4"}, {"version": "2", "layer": "6"}]
    assert [len(cell.runs) for cell in cells] == [2, 1]
    assert cells[0].decided == {"version", "layer", "lr", "unit", "at_most"}
    shared = {"lr": "0.5", "unit": "ms", "too_long": "refuse", "dtype": "float32"}
    assert _shared(cells[0].runs) == {"layer": "4", **shared}
    assert _shared([run for cell in cells for run in cell.runs]) == shared


def test_settings_of_results_that_do_not_say_which_count_are_those_of_the_configuration(tmp_path: Path) -> None:
    settings = {"_target_": "x", "shards": 4, "keep_examples": 3, "n_queries": 7}
    write_run(tmp_path / "run", "echo", Result({"x": 0.5}), settings=settings)
    (cell,) = cells_of(tmp_path)
    assert _shared(cell.runs) == {"n_queries": "7", "too_long": "refuse", "dtype": "float32"}


def test_settings_of_a_model_are_those_that_a_run_says_count(tmp_path: Path) -> None:
    def run(name: str, written: dict[str, Any], counted: dict[str, Any]) -> None:
        model = {"name": "gpt2", "path": "here", **written}
        config = {"model": model, "dataset": {"name": "sst2"}, "experiment": {}}
        more = {"config": config, "identity_of": {"model": counted}}
        write_run(tmp_path / name, "echo", Result({"x": 0.5}), seed=ord(name), identity=name, **more)

    run("a", {}, {"_target_": "own.Model", "quantization": None, "files": "abc"})
    run("b", {"quantization": None}, {"_target_": "own.Model", "quantization": None, "files": "abc"})
    run("c", {"quantization": None, "revision": None}, {"quantization": None, "files": "abc"})  # of the version before
    run("d", {"quantization": "8bit"}, {"_target_": "own.Model", "quantization": "8bit", "files": "abc"})
    cells = cells_of(tmp_path)
    assert [(dict(cell.settings), len(cell.runs)) for cell in cells] == [
        ({"model.quantization": "null"}, 3),
        ({"model.quantization": "8bit"}, 1),
    ]


def test_other_data_or_weights_of_the_same_name_are_other_cells(tmp_path: Path) -> None:
    plain = Result({"accuracy": 0.5})
    write_run(tmp_path / "a", "saliency", plain)
    write_run(tmp_path / "b", "saliency", plain, seed=43, data={"sha256": {"test": "another"}})
    write_run(tmp_path / "c", "saliency", plain, seed=44, environment={"dtype": "float32", "weights": "abc"})
    cells = cells_of(tmp_path)
    assert [set(cell.settings) for cell in cells] == [{"weights", "data"}] * 3
    assert len({tuple(cell.settings.values()) for cell in cells}) == 3


def test_a_seed_that_counts_twice_is_a_problem(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, "saliency", Result({"accuracy": 0.5}), identity=name)
    _, (problem,) = into_cells(collect([tmp_path]).runs)
    assert problem == f"seed 42 counts twice: {tmp_path / 'a'} and {tmp_path / 'b'} differ in no setting"


def test_a_plane_has_each_model_and_dataset_once(tmp_path: Path) -> None:
    plain = Result({"accuracy": 0.5})
    for i, (dataset, shots) in enumerate([("trec", 1), ("sst2", 1), ("sst2", 2)]):
        write_run(tmp_path / str(i), "saliency", plain, dataset=dataset, settings={"shots_per_class": shots})
    found = [(settings, [cell.dataset for cell in plane]) for settings, plane in planes(cells_of(tmp_path))]
    assert found == [({}, ["sst2", "trec"]), ({"shots_per_class": 2}, ["sst2"])]  # 1 is the default
    assert planes([]) == []


def test_the_mean_leaves_out_what_is_undefined_and_matches_by_name() -> None:
    first = Result(
        {"spearman": NAN, "only": 1.0},
        curves={"R": Curve("layer", [1, 2, 3], [NAN, 0.5, 0.5])},
        tables={"confusion": Table(["a", "b"], ["x", "y"], [[1, 2], [3, NAN]])},
        notes=["of both", "of one"],
    )
    second = Result(
        {"spearman": 0.5},
        curves={"R": Curve("layer", [1, 2, 4], [NAN, 1.5, 0.5])},
        tables={"confusion": Table(["b", "a"], ["y", "x"], [[8, 5], [4, 3]])},
        notes=["of both"],
    )
    found = mean([first, second], [42, 43])
    assert found.metrics == {"spearman": 0.5, "only": 1.0}
    assert found.curves["R"].at == [1, 2]
    assert found.curves["R"].values == pytest.approx([NAN, 1.0], nan_ok=True)
    assert found.curves["R"].stderr == pytest.approx([NAN, 0.5], nan_ok=True)
    assert found.tables["confusion"] == Table(["a", "b"], ["x", "y"], [[2, 3], [4, 8]])
    assert found.notes == ["of both", "seed 42: of one"]
    assert mean([first], [42]) is first


def test_the_contribution_of_layers_over_seeds_is_that_of_their_mean_curve(tmp_path: Path) -> None:
    """Sums of 0.4 and 0.001: the mean of their R would be (0.5 + 100) / 2 in layer 1."""
    for seed, areas in ((42, [0.7, 0.7]), (43, [0.6, 0.401]), (44, [NAN, NAN])):
        contribution = cumulative_contribution(areas)
        curves = {"AUCROC": Curve("layer", [1, 2], areas), "R": Curve("layer", [1, 2], contribution)}
        write_run(tmp_path / str(seed), "attention_prediction", Result({}, curves=curves), seed=seed)
    (cell,) = cells_of(tmp_path)
    assert cell.result.curves["R"].values == pytest.approx([0.3 / 0.401, 1])
    assert not cell.result.notes


def test_it_is_undefined_where_the_mean_curve_says_nothing_and_one_seed_is_itself(tmp_path: Path) -> None:
    view = view_of("attention_prediction")

    def of_seed(*areas: float) -> Result:
        values = {"AUCROC": list(areas), "R": cumulative_contribution(areas)}
        return Result({}, curves={name: Curve("layer", [1, 2], found) for name, found in values.items()})

    found = mean([of_seed(0.9, 0.9), of_seed(0.2, 0.2)], [42, 43], view)
    assert all(map(math.isnan, found.curves["R"].values))
    assert found.notes == [
        "R is undefined: AUCROC - 0.5 summed over the layers, 0.100, does not exceed its standard error, 0.700"
    ]
    found = mean([of_seed(0.6, 0.8), of_seed(NAN, NAN)], [42, 43], view)
    assert found.curves["R"].values == pytest.approx([0.25, 1])
    found = mean([of_seed(NAN, NAN), of_seed(NAN, NAN)], [42, 43], view)
    assert all(map(math.isnan, found.curves["R"].values))


def test_seeds_that_agree_have_the_error_of_their_queries_and_not_none() -> None:
    found = mean([Result({"accuracy": 1.0}, {"accuracy": 0.06}), Result({"accuracy": 1.0}, {"accuracy": 0.08})], [1, 2])
    assert found.stderr["accuracy"] == pytest.approx(0.05)  # sqrt(0.06^2 + 0.08^2) / 2
    assert math.isnan(mean([Result({"ece": 0.0}), Result({"ece": 0.0})], [1, 2]).stderr["ece"])
    curves = [Result({}, curves={"loyalty": Curve("k", [1, 3], [1.0, x], [0.06, 0.01])}) for x in (0.5, 0.7)]
    assert mean(curves, [1, 2]).curves["loyalty"].stderr == pytest.approx([0.06 / math.sqrt(2), 0.1])


def test_a_p_and_its_bounds_have_no_mean_and_whole_numbers_stay_whole() -> None:
    each = [Result({"spearman": s, "spearman_p": 0.5, "spearman_low": -1.0, "layer": 20}) for s in (0.25, 0.75)]
    found = mean(each, [42, 43])
    assert found.metrics == {"spearman": 0.5, "layer": 20}
    assert isinstance(found.metrics["layer"], int)
    assert math.isnan(found.stderr["layer"])


def test_how_many_seeds_know_a_metric_is_counted(tmp_path: Path) -> None:
    for seed, spearman in ((42, NAN), (43, 0.25), (44, 0.75)):
        write_run(tmp_path / str(seed), "diagnosis", Result({"spearman": spearman}), seed=seed)
    (cell,) = cells_of(tmp_path)
    assert (cell.result.metrics["spearman"], cell.known["spearman"], len(cell.runs)) == (0.5, 2, 3)


def label_records(numbers: range) -> list[Record]:
    """Repetitions that depend on seed + repetition, as those of real runs do."""

    def record(number: int, repetition: int) -> Record:
        draw = np.random.default_rng(number)
        scores = np.log(draw.dirichlet([1, 1], size=(2, 3))).tolist()
        regimes = {name: {"shown": [], "log_probabilities": scores[i]} for i, name in enumerate(("default", "random"))}
        labels = draw.integers(2, size=3).tolist()
        head = {"repetition": repetition, "examples": [number, 0, 1], "labels": labels, "frequencies": [0.5, 0.5]}
        return {**head, "regimes": regimes}

    return [record(number, number - numbers.start) for number in numbers]


def test_repetitions_that_seeds_share_count_once(tmp_path: Path) -> None:
    experiment = LabelRelationships(regimes=("default", "random"), n_demonstrations=3)
    for seed in (42, 44):
        records = label_records(range(seed, seed + 4))
        settings = {"regimes": ["default", "random"], "n_demonstrations": 3, "repetitions": 4}
        result = experiment.reduce(records, ())
        write_run(tmp_path / str(seed), "label_relationships", result, records, seed=seed, settings=settings)
    (cell,) = cells_of(tmp_path)
    whole = experiment.reduce(label_records(range(42, 48)), ())
    assert (cell.over, len(cell.runs)) == ("repetitions", 2)
    assert cell.result.metrics == pytest.approx(dict(whole.metrics))
    assert cell.result.stderr == pytest.approx(dict(whole.stderr))
    (tmp_path / "44" / "records.jsonl").write_text("garbage\n")
    (cell,), (problem,) = into_cells(collect([tmp_path]).runs)
    assert cell.result.metrics == pytest.approx(dict(experiment.reduce(label_records(range(42, 46)), ()).metrics))
    assert "represents its cell: repetitions cannot be pooled" in problem
    assert "records.jsonl, line 1 is damaged" in problem
