"""A figure's name says what it shows, and a run that is added changes no figure but those that show it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from anchorflow.report.figures import FileNames, named
from anchorflow.report.write import report
from anchorflow.results import Result
from tests.report.made_up import known, made_up
from tests.report.runs import write_run

SALIENCY = ("saliency_shares", "saliency_means")
BY_DEPTH = {f"saliency_S_{flow}_share_by_depth" for flow in ("wp", "pq")}
SPEARMAN = "spearman_by_layer"


def draw(folder: Path, out: Path) -> dict[str, bytes]:
    report([folder], out)
    return {path.stem: path.read_bytes() for path in (out / "figures").glob("*.png")}


def add(folder: Path, experiment: str = "saliency", **what: Any) -> None:
    metrics = {"default_minus_random": 0.1, "default_minus_random_p": 0.01}
    found = Result(metrics) if experiment == "label_relationships" else made_up(experiment, known(), classes=2)
    write_run(folder, experiment, found, **what)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Some runs, and their figures."""
    folder = tmp_path_factory.mktemp("base")
    for seed in (1, 2):
        add(folder / "runs" / f"saliency{seed}", seed=seed)
    add(folder / "runs" / "diagnosis", "diagnosis")
    add(folder / "runs" / "labels", "label_relationships", settings={"n_demonstrations": 10})
    return folder / "runs", draw(folder / "runs", folder / "report")


ADDED: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "a seed": ({"seed": 3}, {*SALIENCY}, set()),
    "a model": ({"model": "a model"}, {*SALIENCY}, BY_DEPTH),
    "a precision": ({"environment": {"device": "cuda", "dtype": "float16"}}, {*SALIENCY}, BY_DEPTH),
    "weights": ({"environment": {"device": "cpu", "dtype": "float32", "weights": "ab"}}, {*SALIENCY}, BY_DEPTH),
    "a pilot": ({"settings": {"n_queries": 7}}, set(), {f"{name}_n_queries-7" for name in SALIENCY}),
    "a version": ({"settings": {"version": "9"}}, set(), {f"{name}_version-9" for name in SALIENCY}),
    "a dataset": (
        {"experiment": "diagnosis", "dataset": "a dataset (hub)"},
        {SPEARMAN},
        {"confusion_gpt2_a-dataset-hub"},
    ),
    "an instruction": (
        {"experiment": "label_relationships", "settings": {"instruction": "ignore"}},
        set(),
        {
            f"{name}_instruction-ignore"
            for name in (
                "default_minus_random",
                "label_relationships_accuracy",
                "label_relationships_log_likelihood",
            )
        },
    ),
}


@pytest.mark.parametrize("kind", ADDED)
def test_a_run_that_is_added_changes_no_figure_but_those_that_show_it(
    base: tuple[Path, dict[str, bytes]], tmp_path: Path, kind: str
) -> None:
    runs, before = base
    what, changed, new = ADDED[kind]
    add(tmp_path / "runs" / "added", **what)
    for folder in runs.iterdir():
        shutil.copytree(folder, tmp_path / "runs" / folder.name)
    after = draw(tmp_path / "runs", tmp_path / "report")
    assert after.keys() == before.keys() | new
    assert {name for name in before if after[name] != before[name]} == changed
    index = (tmp_path / "report" / "report.md").read_text()
    assert all(f"| figures/{name}.png | figures/{name}.pdf |" in index for name in after)


def test_names_are_made_of_settings() -> None:
    unique = FileNames()
    settings = {"shots_per_class": 5, "regimes": ["default", "noise_0.5"], "text": "of/with"}
    assert unique(named("shares", settings)) == "shares_shots_per_class-5_regimes-default-noise_0.5_text-of-with"
    assert unique("sst2, phrases (StaICC)_x--5") == "sst2-phrases-StaICC_x--5"
    assert unique("same") == "same"
    assert unique("Same") == "Same_2"
    lossy = [unique(name) for name in ("a?", "a!", "long" * 30, "long" * 31, "..", "\ud800")]
    assert len({*lossy}) == 6
    assert all(0 < len(name) <= 80 for name in lossy)
