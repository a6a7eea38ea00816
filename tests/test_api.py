"""The library: what the top of the package offers, checked as the configuration is, and without files."""

import dataclasses
import json
import subprocess
import sys
import webbrowser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import anchorflow as af
from anchorflow.results import Curve, Result
from anchorflow.runs import read_settings
from tests.conftest import ROOT, write_dataset
from tests.test_settings import composed


@pytest.fixture(scope="module")
def lm() -> af.LanguageModel:
    return af.load_model(af.Tiny(layers=3), device="cpu")


@pytest.fixture(scope="module")
def task() -> af.Task:
    return af.load_task("novel")


@pytest.mark.slow
def test_importing_the_package_loads_nothing_and_asking_for_a_name_finds_it() -> None:
    code = """
import sys
import anchorflow
assert not {"torch", "transformers", "numpy", "pydantic", "hydra"} & set(sys.modules)
from anchorflow import errors, settings
assert "torch" not in sys.modules
assert anchorflow.UserError is errors.UserError
import anchorflow.runs
assert callable(anchorflow.run)
try:
    anchorflow.no_such_name
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "module 'anchorflow' has no attribute 'no_such_name'"


def test_a_run_gives_a_result_and_leaves_no_file(
    lm: af.LanguageModel, task: af.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = af.run(af.Saliency(n_queries=4), lm, task, seed=3)
    assert list(tmp_path.iterdir()) == []
    assert list(result.curves["S_wp_share"].at) == [1, 2, 3]
    assert len(result.records) == 4
    assert set(result.figures()) == {"saliency_shares", "saliency_means"}
    assert result.plot() is not result.plot("saliency_means")
    with pytest.raises(af.UserError, match="no figure 'flow'; allowed: saliency_shares, saliency_means"):
        result.plot("flow")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "get", lambda: SimpleNamespace(name="chromium", open=opened.append))
    view = result.show()
    assert Path(opened[0].removeprefix("file://")).read_text() == view.page
    assert view.title == result.title
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    assert "<iframe" in result.show()._repr_html_()
    assert len(opened) == 1, "a notebook shows it itself"


def test_a_run_in_a_folder_is_the_command_lines_run(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    settings = {"model": "tiny", "dataset": "local", "experiment": "classification"}
    node = composed(*(f"{key}={value}" for key, value in settings.items()), f"dataset.path={data}")
    chosen = read_settings({**node, "experiment": {**node["experiment"], "n_queries": 5}})
    task = af.load_task(data, name="local")
    identity = chosen.identity(task, "float32")
    experiment = af.Classification(n_queries=5)
    first = af.run(experiment, "tiny", task, folder=tmp_path / "run")
    found = af.read_runs(tmp_path / "run")
    assert (tmp_path / "run" / ".identity").read_text().strip() == identity
    assert list(found["accuracy"]) == [first.metrics["accuracy"]]
    assert list(found["experiment.n_queries"]) == [5]
    again = af.run(experiment, "tiny", task, folder=tmp_path / "run")  # read, not computed
    assert again.to_json() == first.to_json()
    assert again.records == first.records
    with pytest.raises(af.UserError, match="holds records of another run"):
        af.run(experiment, "tiny", task, seed=1, folder=tmp_path / "run")


def test_read_runs_names_what_it_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "status.json").write_text('{"state": "failed", "error": "no luck"}')
    found = af.read_runs(tmp_path)
    assert len(found) == 0
    assert "no luck" in caplog.text
    assert "no luck" in found.attrs["problems"][0]
    with pytest.raises(af.UserError, match="does not exist"):
        af.read_runs(tmp_path / "nowhere")


def test_taps_are_in_force_for_a_block(lm: af.LanguageModel) -> None:
    seen: list[int] = []

    def note(attention: af.Attention, attend: af.Attend) -> torch.Tensor:
        seen.append(attention.layer)
        return attend(attention)

    ids = torch.tensor([[1, 2, 3]])
    plain = lm.model(ids).logits
    with af.tapped(lm, note):
        assert torch.allclose(lm.model(ids).logits, plain, atol=1e-5)
    lm.model(ids)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("cls", "arguments", "complaint"),
    [
        (af.Saliency, {"n_queries": 0}, "n_queries is 0; allowed: 1 or more"),
        (af.Saliency, {"n_queries": "many"}, "n_queries is 'many': input should be a valid integer"),
        (af.Saliency, {"n_queries": 2.0}, "n_queries is 2.0; allowed: a whole number, written as one (2)"),
        (af.Saliency, {"queries": 2}, "queries is not a setting of Saliency; allowed: n_queries, "),
        (af.Isolation, {"first_or_last_k": [0]}, "first_or_last_k is [0]"),
        (af.LabelRelationships, {"regimes": ["fliped"]}, "regimes has 'fliped'"),
        (af.Tiny, {"family": "bert"}, "family is 'bert'"),
        (af.Dataset, {}, "path is missing; dataset=local needs dataset.path=DIR, or a file"),
    ],
)
def test_direct_construction_is_checked_as_the_configuration_is(
    cls: Any, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(af.UserError) as refused:
        cls(**arguments)
    assert complaint in str(refused.value)


def test_a_task_of_ones_own_examples(lm: af.LanguageModel) -> None:
    def examples(*texts: str) -> tuple[af.Example, ...]:
        return tuple(af.Example(row, text, row % 2) for row, text in enumerate(texts))

    words = {"template": af.Template("{text} is{label}"), "label_words": (" bad", " good")}
    task = af.Task(
        name="mine", train=examples("rain", "sun", "hail", "heat"), test=examples("fog", "blue sky"), **words
    )
    other = af.Task(name="mine", train=task.test, test=task.train, **words)
    assert task.provenance.source == "given"
    assert task.provenance.sha256["train"] == other.provenance.sha256["test"] != task.provenance.sha256["test"]
    assert len(af.run(af.Classification(n_queries=None), lm, task).records) == 2


def test_test_examples_that_are_in_train_are_warned_of_once(
    lm: af.LanguageModel, task: af.Task, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    overlapping = dataclasses.replace(task, test=(*task.test[:3], *task.train[:2]))
    for where in (None, tmp_path / "run"):
        caplog.clear()
        af.run(af.Classification(n_queries=2), lm, overlapping, folder=where)
        said = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert said == ["overlap: 2 of the 5 test examples of novel have the text of a train example"]
    found = json.loads((tmp_path / "run" / "result.json").read_text())["data"]
    assert (found["overlap"], found["shown"], found["examples"]["test"]) == (2, "novel", 5)


def test_results_as_data_frames() -> None:
    curves = {"S": Curve("layer", [1, 2], [0.5, 0.25], [0.1, 0.2])}
    frame = Result(metrics={"accuracy": 0.5}, stderr={"accuracy": 0.1}, curves=curves).to_pandas()
    assert frame["name"].tolist() == ["accuracy", "S", "S"]
    assert frame["value"].tolist() == [0.5, 0.5, 0.25]
    assert frame["at"].tolist()[1:] == [1, 2]
    assert frame["stderr"].tolist() == [0.1, 0.1, 0.2]


def test_models_and_tasks_by_name_path_or_object(tmp_path: Path) -> None:
    assert af.load_model("tiny", device="cpu").shape.layers == 8
    data = write_dataset(tmp_path / "my-data")
    task = af.load_task(data)
    assert (task.name, len(task.test)) == ("my-data", 8)
    assert af.load_task("novel", n_test=7).test[6].row == 6
    assert af.load_task(af.Novel(name="x", template="{text}:{label}", label_words=(" a", " b"), n_test=2)).name == "x"
    with pytest.raises(af.UserError, match="only with a name or a path"):
        af.load_task(af.Dataset(name="x", path=str(data)), separator="x")
    with pytest.raises(af.UserError, match=r"dataset.n_testt is not a setting of Novel"):
        af.load_task("novel", n_testt=7)
    with pytest.raises(af.UserError, match="which is not there"):
        af.load_model(tmp_path / "nothing")


def test_a_run_in_a_folder_is_refused_where_its_identity_would_not_say_what_ran(
    lm: af.LanguageModel, task: af.Task, tmp_path: Path
) -> None:
    def through(attention: af.Attention, attend: af.Attend) -> torch.Tensor:
        return attend(attention)

    experiment = af.Classification(n_queries=2)
    with af.tapped(lm, through), pytest.raises(af.UserError, match="taps are not part of a run's identity"):
        af.run(experiment, lm, task, folder=tmp_path / "run")
    af.run(experiment, lm, task, folder=tmp_path / "run")
    with pytest.raises(af.UserError, match="holds records of another run"):
        af.run(experiment, lm, dataclasses.replace(task, test=task.test[5:20]), folder=tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((af.Saliency, "tiny", "novel"), "experiment is <class "),
        (("saliency", "tiny", "novel"), "experiment is 'saliency'; allowed: an object such as"),
        ((af.Saliency(), None, "novel"), "lm is None; allowed: what load_model"),
        ((af.Saliency(), "tiny", 3), "task is 3; allowed: what load_task"),
    ],
)
def test_arguments_of_another_kind_are_refused_by_name(arguments: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(af.UserError) as refused:
        af.run(*arguments)
    assert complaint in str(refused.value)
    with pytest.raises(af.UserError, match="dtype is 'float8'; allowed: auto, float64"):
        af.load_model("tiny", dtype="float8")
