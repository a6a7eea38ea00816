"""What is tested and refused, by hand; a run of the command line, killed and resumed."""

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import LabelRelationships
from anchorflow.experiments.label_relationships import measures
from anchorflow.models import LanguageModel, Shape, Tiny
from anchorflow.prompts.labels import Regime, parse
from anchorflow.results import Record
from tests.conftest import write_dataset
from tests.experiments.test_label_relationships import ALL, BOTH, mapped, worked
from tests.launching import interrupted, launch, records, without_timing


def test_what_each_hypothesis_compares_and_where() -> None:
    names = [c.name for c in LabelRelationships(regimes=BOTH).comparisons(12, 3)]
    assert names == [
        *("default_minus_guessing", "default_minus_random", "default_minus_flipped", "default_minus_flipped_entropy"),
        *("default_minus_noise_0.5", "default_minus_replaced_A_B", "default_minus_replaced_B_A"),
        *("default_minus_constant_Number", "default_minus_random_0.5", "default_minus_random_until_4"),
        *("default_minus_shuffled", "default_minus_predicted", "replaced_A_B_minus_replaced_B_A"),
        *("flip_after_4_minus_default_after_4_at_8", "flip_after_4_minus_alternating_2_at_8"),
        "default_after_4_minus_alternating_2_at_8",
    ]
    assert not [name for name in names if "_at_" in name and "_at_8" not in name]
    assert not [c for c in LabelRelationships(regimes=BOTH).comparisons(8, 3) if "_at_" in c.name]
    assert LabelRelationships(regimes=("flipped",)).comparisons(5, 3) == []


def record(number: int, labels: list[int], **regimes: list[list[float]]) -> Record:
    shown: list[str] = []
    given = {name: {"shown": shown, "log_probabilities": np.log(p).tolist()} for name, p in regimes.items()}
    return {
        "repetition": number,
        "examples": list(range(len(labels))),
        "labels": labels,
        "frequencies": [0.5, 0.25, 0.25],
        "regimes": given,
    }


def test_flipped_labels_of_three_classes_are_scored_against_the_next_class() -> None:
    p = [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]
    found = measures([record(0, [0, 2], flipped=p)], Regime("flipped"))
    assert found["accuracy"].tolist() == [[0.0, 0.0]]
    assert found["flipped_accuracy"].tolist() == [[1.0, 1.0]]
    assert np.exp(found["log_likelihood"]).tolist() == [pytest.approx([0.2, 0.3])]
    assert np.exp(found["flipped_log_likelihood"]).tolist() == [pytest.approx([0.5, 0.6])]


def test_one_repetition_has_curves_but_no_test() -> None:
    p = [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]
    experiment = LabelRelationships(regimes=("default", "random", {"flip_after": 1}), repetitions=1)
    result = experiment.reduce([record(0, [0, 2], default=p, random=p, flip_after_1=p)], ["a", "b", "c"])
    assert result.metrics["default_minus_random"] == 0
    assert math.isnan(result.metrics["default_minus_random_p"])
    assert result.notes == ["flip_after_1 never has equally many true and flipped labels; n_demonstrations is 2"]
    json.dumps(result.to_json(), allow_nan=False)


def test_the_quick_defaults_say_how_to_take_the_papers() -> None:
    p = [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]
    for settings, says in (({}, True), ({"repetitions": 500}, False), ({"n_demonstrations": None}, False)):
        result = LabelRelationships(regimes=("default",), **settings).reduce([record(0, [0, 2], default=p)], ["a"])
        assert any("experiment.n_demonstrations=null" in note for note in result.notes) == says


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"regimes": ("fliped",)}, "regimes has 'fliped'; allowed: default"),
        ({"regimes": ({"noise": -0.1},)}, "noise is -0.1; allowed: a probability from 0 to 1"),
        ({"regimes": ({"flip_after": 5},), "n_demonstrations": 5}, "flip_after is 5 with n_demonstrations=5; allowed"),
        ({"regimes": ({"alternating": 9},), "n_demonstrations": 5}, "alternating is 9 with n_demonstrations=5"),
        ({"regimes": ({"random_until": 4},), "n_demonstrations": 5}, "random_until is 4 with n_demonstrations=5"),
        ({"n_demonstrations": 0}, "n_demonstrations is 0"),
        ({"repetitions": 0}, "repetitions is 0"),
        ({"repetitions": 1, "calibrate": "per_position"}, "repetitions is 1 with calibrate=per_position; allowed: 2"),
        ({"calibrate": "mean"}, "calibrate is 'mean': input should be 'none', 'content_free' or 'per_position'"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        LabelRelationships(**settings)


@pytest.mark.parametrize(
    ("settings", "limit", "complaint"),
    [
        ({"regimes": ({"replaced": ["A", "B"]},)}, None, "replaced_A_B has 2 words, the task 3 classes (Person, Loc"),
        ({"n_demonstrations": 31}, None, "n_demonstrations is 31; the train split of toy has 30 examples"),
        (
            {"regimes": ({"replaced": ["Zebra", "Zoo", "A"]},)},
            None,
            "toy cannot be asked of tiny: the label words ' Zebra' and ' Zoo'",
        ),
        ({"regimes": ({"flip_after": 20},), "n_demonstrations": None}, 300, "flip_after is 20 with n_demonstrations="),
        ({"n_demonstrations": None}, 10, "not even one example fits the context of 10 tokens"),
    ],
)
def test_what_task_and_model_cannot_satisfy_is_refused(
    task: Task, settings: dict[str, Any], limit: int | None, complaint: str
) -> None:
    lm = Tiny().load("cpu", "float32")
    experiment = LabelRelationships(**settings, repetitions=2)

    def go() -> None:
        experiment.check(task, Shape("tiny", 8, 4))
        worked(experiment, lm, task, limit)

    with pytest.raises(UserError) as refused:
        go()
    assert complaint in str(refused.value)


def test_names_of_regimes_are_the_keys_of_records(lm: LanguageModel, task: Task) -> None:
    experiment = LabelRelationships(regimes=ALL, n_demonstrations=5, repetitions=1)
    (found,) = mapped(experiment, lm, worked(experiment, lm, task))
    assert list(found["regimes"]) == [regime.name for regime in parse(ALL)]
    assert set(found) == {"repetition", "examples", "labels", "frequencies", "regimes"}
    assert found["labels"] == [task.train[row].label for row in found["examples"]]


def run(data: Path, *overrides: str, run_dir: str = "run") -> tuple[str, ...]:
    return (
        *("model=tiny", "dataset=local", f"dataset.path={data}", "tracking=none", f"hydra.run.dir={run_dir}"),
        *("experiment=label_relationships", "device=cpu", *overrides),
    )


@pytest.mark.slow
def test_a_run_of_the_command_line_goes_on_after_a_kill(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=60)
    several = (
        *("experiment.repetitions=60", "experiment.n_demonstrations=12", "batch_tokens=900"),
        "experiment.regimes=[default,random,flipped,{flip_after: 4},{noise: 0.25},{replaced: [A,B]}]",
    )
    done = launch(*run(data, *several, run_dir="undisturbed"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    interrupted(run(data, *several), tmp_path, 5, signal.SIGKILL)
    kept = (tmp_path / "run" / "records.jsonl").read_bytes()
    assert not (tmp_path / "run" / "result.json").exists()
    again = launch(*run(data, *several), cwd=tmp_path)
    assert "resuming: " in again.stderr
    assert (tmp_path / "run" / "records.jsonl").read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    result = without_timing(tmp_path / "run")
    assert result == without_timing(tmp_path / "undisturbed")

    def by_number(folder: Path) -> list[Record]:
        return sorted(records(folder), key=lambda r: r["repetition"])

    assert by_number(tmp_path / "run") == by_number(tmp_path / "undisturbed")
    assert result["counts"] == {"repetitions": 60, "skipped": 0}
    assert result["curves"]["noise_0.25/accuracy"]["at"] == list(range(12))
    assert {"default_minus_random", "default/log_likelihood_at_max"} <= set(result["metrics"])
    assert {path.suffix for path in (tmp_path / "run" / "figures").iterdir()} == {".png", ".pdf"}


@pytest.mark.slow
def test_a_repetition_longer_than_the_context_is_refused_or_skipped(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=12)
    with (data / "train.jsonl").open("a") as file:
        file.write(json.dumps({"text": "very " * 3000, "label": 0}) + "\n")
    some = ("experiment.n_demonstrations=4", "experiment.repetitions=8")
    refused = launch(*run(data, *some), cwd=tmp_path)
    assert refused.returncode == 1
    assert "the prompt for repetition" in refused.stderr
    assert "the context of tiny is 2048" in refused.stderr
    skipping = launch(*run(data, *some, "too_long=skip", run_dir="skipping"), cwd=tmp_path)
    assert skipping.returncode == 0, skipping.stderr
    counts = without_timing(tmp_path / "skipping")["counts"]
    assert counts["repetitions"] + counts["skipped"] == 8
    assert counts["skipped"] > 0
