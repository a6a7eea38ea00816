"""What the papers print, beside our runs of the same setting, and in what ours differ."""

from pathlib import Path
from typing import Any

import pytest

from anchorflow.report.cells import into_cells
from anchorflow.report.collect import collect
from anchorflow.report.tables import published
from anchorflow.report.tables.sheets import Measured, Row
from anchorflow.results import Result
from tests.report.runs import write_run

(PAPER,) = published.papers()


def ours(folder: Path, experiment: str, dataset: str, seed: int, queries: int, **how: Any) -> None:
    values, model = how.get("values", {"vanilla/accuracy": 0.6}), how.get("model", "gpt2-xl")
    words = how.get("words", PAPER.label_words.get(dataset))
    config = {
        "model": {"name": model},
        "dataset": {"name": dataset, "label_words": words},
        "experiment": {"shots_per_class": how.get("shots", 1), "n_queries": queries},
    }
    name = "-".join(map(str, (experiment, dataset, seed, queries, model)))
    result = Result(values, dict.fromkeys(values, 0.1))
    write_run(folder / name, experiment, result, seed=seed, identity=name, config=config, counts={"queries": queries})


def rows(folder: Path) -> list[Row]:
    cells, problems = into_cells(collect([folder]).runs)
    assert problems == []
    sheet = published.beside(cells)
    return [] if sheet is None else list(sheet.rows)


def test_every_printed_number_is_of_a_metric_that_its_experiment_has() -> None:
    found = [(figure, numbers) for figure in PAPER.figures for numbers in figure.metrics.values()]
    assert len(found) > 30
    for figure, numbers in found:
        assert set(numbers) <= {*PAPER.n_queries, published.MEAN}
        if figure.unit == "percent":
            assert all(1 < number <= 100 for number in numbers.values())
    table_1 = PAPER.figures[0].metrics
    for numbers in table_1.values():
        assert sum(numbers[name] for name in PAPER.n_queries) / 4 == pytest.approx(numbers["mean"], abs=0.01)


def test_the_papers_own_setting_differs_in_nothing(tmp_path: Path) -> None:
    for seed in range(42, 47):
        ours(tmp_path, "reweighting", "sst2", seed, 872)
    row, mean = rows(tmp_path)
    assert row == [
        *("table 1", "vanilla/accuracy", "sst2", "gpt2-xl", Measured(0.6, 0.0), "gpt2-xl"),
        *(pytest.approx(0.6128), pytest.approx(0.6 - 0.6128), "nothing"),
    ]
    assert mean[2] == "mean"
    assert mean[8] == "sst2 alone"


def test_what_differs_is_said(tmp_path: Path) -> None:
    for seed in (42, 43):
        ours(tmp_path, "reweighting", "sst2", seed, 100, model="small")
        ours(tmp_path, "reweighting", "trec", seed, 100, model="small", values={"vanilla/accuracy": 0.4})
    found = {row[2]: row for row in rows(tmp_path)}
    assert found["sst2"][8] == "model; 100 queries, not 872; 2 seeds, not 5"
    assert found["mean"][8] == "model; sst2, trec alone; 100 queries, not 872 and 500; 2 seeds, not 5"
    assert found["mean"][4] == Measured(pytest.approx(0.5), 0.0)


@pytest.mark.parametrize(
    "how", [{"shots": 2}, {"words": [" A", " B"]}, {"experiment": "isolation"}, {"dataset": "subj"}]
)
def test_another_setting_has_no_counterpart(tmp_path: Path, how: dict[str, Any]) -> None:
    ours(tmp_path, how.pop("experiment", "reweighting"), how.pop("dataset", "sst2"), 42, 872, **how)
    assert rows(tmp_path) == []


def test_a_model_of_the_papers_is_set_beside_itself_and_another_beside_all(tmp_path: Path) -> None:
    values = {"hidden_anchor/speedup": 1.2}
    ours(tmp_path, "compression", "sst2", 42, 872, model="gpt-j", values=values)
    assert [(row[3], row[5]) for row in rows(tmp_path)] == [("gpt-j", "gpt-j")]
    ours(tmp_path, "compression", "sst2", 42, 872, model="small", values=values)
    assert {(row[3], row[5]) for row in rows(tmp_path)} == {
        ("gpt-j", "gpt-j"),
        ("small", "gpt2-xl"),
        ("small", "gpt-j"),
    }
    assert rows(tmp_path)[0][6] == 1.1


def test_labels_without_a_meaning_are_the_appendix(tmp_path: Path) -> None:
    how = {"model": "llama-30b", "words": [" A", " B"], "shots": 8, "values": {"accuracy": 0.8}}
    ours(tmp_path, "classification", "sst2", 42, 872, **how)
    (row,) = rows(tmp_path)
    assert (row[0], row[6]) == ("appendix F.2", 0.83)
