"""What the papers print, beside our runs, and in what ours differ."""

from pathlib import Path
from typing import Any

import pytest

from anchorflow.experiments import Classification, Compression, Reweighting
from anchorflow.report.cells import into_cells
from anchorflow.report.collect import collect
from anchorflow.report.tables import published
from anchorflow.report.tables.sheets import Measured, Row
from anchorflow.results import Result
from anchorflow.settings import fingerprint, to_node
from tests.report.runs import write_run

(PAPER,) = published.papers()
EXPERIMENTS: dict[str, type] = {
    "reweighting": Reweighting,
    "classification": Classification,
    "compression": Compression,
}
VALUES = {
    "reweighting": {"vanilla/accuracy": 0.6},
    "classification": {"accuracy": 0.6},
    "compression": {"hidden_anchor/speedup": 1.2},
}


def ours(
    folder: Path,
    name: str,
    dataset: str,
    seed: int,
    queries: int | None = None,
    *,
    model: str = "gpt2-xl",
    weights: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    prompt: dict[str, Any] | None = None,
    dtype: str = "float32",
    values: dict[str, float] | None = None,
    **settings: Any,
) -> None:
    """A run in the paper's setting but for what is given."""
    theirs = PAPER.datasets.get(dataset, PAPER.datasets["sst2"])
    number = theirs.queries if queries is None else queries
    values = values or VALUES[name]
    experiment = EXPERIMENTS[name](n_queries=number, **settings)
    written = {"template": theirs.template, "label_words": theirs.label_words, "separator": "\n", **(prompt or {})}
    found = {"_target_": "anchorflow.models.Pretrained", "hub": PAPER.weights.get(model, model), "revision": None}
    found = {**found, "quantization": None} if weights is None else weights
    config = {
        "model": {"name": model},
        "dataset": {"name": dataset, "hub": {"id": theirs.hub[0]}, **written},
        "experiment": to_node(experiment),
    }
    given = {
        "source": "hub",
        "shown": f"{dataset}, GLUE (hub)",
        "split": theirs.split,
        "examples": {"train": theirs.train, "test": theirs.queries},
        "sha256": {"test": dataset},
    }
    identity_of = {
        "model": found,
        "experiment": fingerprint(experiment),
        "prompts": [dataset, *written.values()],
        "dtype": dtype,
    }
    identity = "-".join(map(str, (name, dataset, seed, number, model, len(list(folder.iterdir())))))
    write_run(
        folder / identity,
        name,
        Result(values, dict.fromkeys(values, 0.1)),
        seed=seed,
        identity=identity,
        config=config,
        counts={"queries": number},
        identity_of=identity_of,
        data={**given, **(data or {})},
    )


def rows(folder: Path) -> list[Row]:
    cells, problems = into_cells(collect([folder]).runs)
    assert problems == []
    sheet = published.beside(cells)
    return [] if sheet is None else list(sheet.rows)


def differing(folder: Path, *what: Any, **how: Any) -> str:
    """What differs from the paper in five seeds of these runs."""
    for seed in range(42, 47):
        ours(folder, *(what or ("reweighting", "sst2")), seed, **how)
    return str(rows(folder)[0][8])


def test_every_printed_number_is_of_a_metric_that_its_experiment_has() -> None:
    found = [(figure, numbers) for figure in PAPER.figures for numbers in figure.metrics.values()]
    assert len(found) > 30
    for figure, numbers in found:
        assert set(numbers) <= {*PAPER.datasets, published.MEAN}
        assert figure.model in PAPER.weights
        EXPERIMENTS[figure.experiment](**figure.settings)
        if figure.unit == "percent":
            assert all(1 < number <= 100 for number in numbers.values())
    table_1 = PAPER.figures[0].metrics
    for numbers in table_1.values():
        assert sum(numbers[name] for name in PAPER.datasets) / 4 == pytest.approx(numbers["mean"], abs=0.01)


def test_the_papers_own_setting_differs_in_nothing(tmp_path: Path) -> None:
    assert differing(tmp_path) == "nothing"
    row, mean = rows(tmp_path)
    # Seeds that agree have the error of their queries, 0.1 in each of the five.
    measured = Measured(0.6, pytest.approx(0.1 / 5**0.5))  # type: ignore[arg-type]
    assert row[:6] == ["table 1", "vanilla/accuracy", "sst2, GLUE (hub)", "gpt2-xl", measured, "gpt2-xl"]
    assert row[6:8] == [pytest.approx(0.6128), pytest.approx(0.6 - 0.6128)]
    assert mean[2] == "mean"
    assert mean[8] == "sst2 alone"


def test_files_that_hold_the_papers_test_split_are_its_data(tmp_path: Path) -> None:
    files = {"source": "directory", "test_content": PAPER.datasets["sst2"].test_content}
    assert differing(tmp_path, data=files, model="smollm2-135m-instruct-q4_1") == "model (smollm2-135m-instruct-q4_1)"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            {"data": {"source": "package", "shown": "sst2, phrases (StaICC)", "split": None, "test_content": "other"}},
            "data (sst2, phrases (StaICC), no official split, hash ",
        ),
        ({"data": {"source": "directory", "split": "test"}}, "data (sst2, GLUE (hub), test split, hash "),
        ({"data": {"examples": {"train": 6000}}}, "train split of 6000 examples, not 67349"),
        ({"prompt": {"template": "{text}:{label}"}}, "template '{text}:{label}'"),
        ({"prompt": {"separator": "\n\n"}}, r"separator '\n\n'"),
        ({"prompt": {"label_words": [" bad", " good"]}}, "label words bad, good"),
        ({"dtype": "bfloat16"}, "bfloat16, not float32"),
        ({"queries": 500}, "500 queries, not 872"),
        ({"shots_per_class": 2}, "2 demonstrations per class, not 1"),
        (
            {"weights": {"hub": "openai-community/gpt2-xl", "quantization": "8bit"}},
            "weights (openai-community/gpt2-xl, 8b",
        ),
        ({"weights": {"files": "of a directory"}}, "weights (files "),
    ],
)
def test_each_difference_is_said_alone(tmp_path: Path, how: dict[str, Any], said: str) -> None:
    found = differing(tmp_path, **how)
    assert found.startswith(said)
    assert ";" not in found


def test_all_differences_are_said(tmp_path: Path) -> None:
    for seed in (42, 43):
        ours(tmp_path, "reweighting", "sst2", seed, 100, model="small")
        ours(tmp_path, "reweighting", "trec", seed, 100, model="small", values={"vanilla/accuracy": 0.4})
    found = {row[2]: row for row in rows(tmp_path)}
    assert found["sst2, GLUE (hub)"][8] == "model (small); 100 queries, not 872; 2 seeds, not 5"
    assert found["mean"][8] == "model (small); sst2, trec alone; 100 queries, not 872 and 500; 2 seeds, not 5"
    assert found["mean"][4] == Measured(pytest.approx(0.5), pytest.approx(0.1 / 2))  # two seeds of two datasets


def test_a_setting_differs_where_it_changes_the_metric(tmp_path: Path) -> None:
    values = {"vanilla/accuracy": 0.6, "reweighted/accuracy": 0.7}
    assert differing(tmp_path, values=values, epochs=3, lr=0.1) == "nothing"
    assert rows(tmp_path)[2][8] == "lr=0.1, not 0.01; epochs=3, not 10"


def test_the_authors_code_is_remarked_on(tmp_path: Path) -> None:
    values = {"hidden_random_top/accuracy": 0.4, "hidden_anchor/speedup": 1.3, "text_anchor/accuracy": 0.3}
    for seed in range(42, 47):
        ours(tmp_path, "compression", "sst2", seed, values=values)
        ours(tmp_path, "compression", "sst2", seed, values=values, model="gpt-j")
    said = {(row[3], str(row[1]).split("/")[0]): str(row[8]) for row in rows(tmp_path)}
    assert said["gpt2-xl", "text_anchor"] == said["gpt-j", "text_anchor"] == "sst2 alone"
    assert "positions=original, not restart; the authors' 20 sets grow" in said["gpt2-xl", "hidden_random_top"]
    assert said["gpt-j", "hidden_random_top"].startswith("sst2 alone; the authors' 20 sets grow")
    assert said["gpt2-xl", "hidden_anchor"] == "positions=original, not restart; hardware"
    assert said["gpt-j", "hidden_anchor"] == "hardware"


def test_what_results_of_long_ago_do_not_say_is_a_difference(tmp_path: Path) -> None:
    config = {
        "model": {"name": "gpt2-xl"},
        "dataset": {"name": "sst2", "label_words": PAPER.datasets["sst2"].label_words},
        "experiment": {"shots_per_class": 1, "n_queries": 872},
    }
    write_run(tmp_path / "old", "reweighting", Result({"vanilla/accuracy": 0.6}), config=config)
    said = str(rows(tmp_path)[0][8])
    for part in ("weights (not recorded", "data (sst2, no official split", "train split of None", "template 'None'"):
        assert part in said


@pytest.mark.parametrize(
    ("dataset", "how"),
    [
        ("subj", {}),
        ("sst2", {"queries": 99}),
        ("sst2", {"weights": {"_target_": "anchorflow.models.Tiny"}}),
    ],
)
def test_another_dataset_few_queries_and_toys_have_no_counterpart(
    tmp_path: Path, dataset: str, how: dict[str, Any]
) -> None:
    ours(tmp_path, "reweighting", dataset, 42, **how)
    assert rows(tmp_path) == []


def test_a_run_stands_beside_the_nearest_number_of_demonstrations(tmp_path: Path) -> None:
    assert differing(tmp_path, "classification", "sst2", shots_per_class=8) == "8 demonstrations per class, not 5"
    assert rows(tmp_path)[0][6] == 0.6475


def test_copies_of_a_dataset_are_not_averaged(tmp_path: Path) -> None:
    ours(tmp_path, "reweighting", "sst2", 42)
    ours(tmp_path, "reweighting", "sst2", 42, data={"shown": "sst2, phrases (StaICC)", "source": "package"})
    assert [row[2] for row in rows(tmp_path)] == ["sst2, GLUE (hub)", "mean", "sst2, phrases (StaICC)", "mean"]


def test_a_model_of_the_papers_is_set_beside_itself_and_another_beside_all(tmp_path: Path) -> None:
    ours(tmp_path, "compression", "sst2", 42, model="gpt-j")
    assert [(row[3], row[5]) for row in rows(tmp_path)] == [("gpt-j", "gpt-j")]
    ours(tmp_path, "compression", "sst2", 42, model="small")
    assert {(row[3], row[5]) for row in rows(tmp_path)} == {
        ("gpt-j", "gpt-j"),
        ("small", "gpt2-xl"),
        ("small", "gpt-j"),
    }
    assert rows(tmp_path)[0][6] == 1.1


def test_labels_without_a_meaning_are_the_appendix(tmp_path: Path) -> None:
    how: dict[str, Any] = {"model": "llama-30b", "prompt": {"label_words": [" A", " B"]}, "shots_per_class": 8}
    assert differing(tmp_path, "classification", "sst2", **how) == "nothing"
    ((place, *_, theirs, _, _),) = rows(tmp_path)
    assert (place, theirs) == ("appendix F.2", 0.83)
