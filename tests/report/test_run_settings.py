"""The settings of runs: what all share, what differs, and the table of all of them."""

from pathlib import Path
from typing import Any

import pytest

from anchorflow.api import read_runs
from anchorflow.report.cells import into_cells
from anchorflow.report.collect import collect
from anchorflow.report.tables import overview
from anchorflow.results import Result
from tests.report.runs import write_run


def run(folder: Path, layers: int, words: list[str], accuracy: float = 0.5, **changed: Any) -> None:
    counted = {
        "model": {"_target_": "anchorflow.models.Tiny", "layers": layers, "width": 32, "head": None},
        "prompts": ["sst2", "{text}{label}", words, None],
        "experiment": {"_target_": "anchorflow.experiments.Classification", "n_queries": 100},
    }
    found = Result({"accuracy": accuracy}, {"accuracy": 0.03})
    write_run(folder, "classification", found, model="tiny", identity_of=counted, **changed)


def test_the_table_of_runs_has_every_setting_and_the_cell_of_each(tmp_path: Path) -> None:
    for number, (layers, words) in enumerate([(2, [" a", " b"]), (4, [" a", " b"]), (4, [" c", " d"])]):
        for seed in (1, 2):
            run(
                tmp_path / f"{number}-{seed}", layers, words, accuracy=number / 4, seed=seed, identity=f"{number}{seed}"
            )
    found = read_runs(tmp_path)
    assert list(found["model.layers"]) == [2, 4, 4, 2, 4, 4]  # ordered by seed
    assert set(found["label_words"]) == {'[" a", " b"]', '[" c", " d"]'}
    assert set(found["experiment.n_queries"]) == {100}
    assert set(found["dtype"]) == {"float32"}
    assert found["cell"].nunique() == 3
    assert found["cell"][0] == 'classification, tiny, sst2, model.layers=2, label_words=[" a", " b"]'
    assert sorted(found.groupby("cell")["accuracy"].mean()) == [0.0, 0.25, 0.5]


def test_settings_of_a_model_that_all_runs_share_are_listed_and_those_left_open_are_not(tmp_path: Path) -> None:
    run(tmp_path / "a", 2, [" a", " b"])
    run(tmp_path / "b", 2, [" c", " d"], seed=7)
    rows = overview.shared(into_cells(collect([tmp_path]).runs)[0]).rows
    assert ("model tiny", "model.layers", "2") in rows
    assert ("dataset sst2", "template", "{text}{label}") in rows
    assert ("classification", "n_queries", "100") in rows
    assert not [row for row in rows if row[1] in ("label_words", "model.head", "separator")]


@pytest.mark.parametrize(("second", "aside"), [(0.5, "over queries"), (0.75, "")])
def test_an_error_says_what_it_is_over_where_all_seeds_agree(tmp_path: Path, second: float, aside: str) -> None:
    for seed, accuracy in ((1, 0.5), (2, second)):
        run(tmp_path / str(seed), 2, [" a", " b"], accuracy=accuracy, seed=seed, identity=str(seed))
    (cell,) = into_cells(collect([tmp_path]).runs)[0]
    assert cell.over == "seeds"
    assert cell.measured("accuracy").aside == aside
