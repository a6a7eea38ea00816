"""The command keeps what it has, ends what takes too long, and says what it found; the judge sees what is broken."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorflow.attention import Attend, Attention, Isolate
from tests.families import __main__ as command
from tests.families import build, judge, made_up, table
from tests.families.judge import NOT_BUILT, REFUSED, RIGHT, TRACEBACK, WRONG, Outcome


def made_up_judge(name: str) -> Iterator[tuple[str, Outcome]]:
    """A judge that needs no model: what it does is in the family's name."""
    if name == "bert":
        yield "model", {"outcome": NOT_BUILT, "why": "it cannot be"}
        return
    yield "classification", {"outcome": REFUSED if name == "gptj" else RIGHT, "why": "no_attention | here"}
    if name == "mamba":
        os._exit(3)
    if name == "opt":
        time.sleep(60)
    while name == "falcon":
        pass
    for experiment in judge.experiments()[1:]:
        yield experiment.name, {"outcome": RIGHT, "why": ""}


def test_every_family_has_its_outcomes_and_none_is_tried_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "judge", made_up_judge)
    monkeypatch.setattr(command, "PATIENCE", 5)
    out, text = tmp_path / "all.json", tmp_path / "models.md"
    names = ["gpt2", "gptj", "bert", "mamba", "opt", "falcon"]
    command.main([*names, "--out", str(out), "--markdown", str(text), "--seconds", "1"])
    found = json.loads(out.read_text())["families"]
    assert set(found) == set(names)
    assert {name: o["classification"]["outcome"] for name, o in found.items() if name != "bert"} == {
        "gpt2": RIGHT,
        "gptj": REFUSED,
        "mamba": RIGHT,
        "opt": RIGHT,
        "falcon": RIGHT,
    }
    assert found["mamba"]["saliency"] == {"outcome": TRACEBACK, "why": "its process ended with 3"}
    for name in ("opt", "falcon"):
        assert found[name]["saliency"] == {"outcome": TRACEBACK, "why": "longer than 1 s"}
    written = text.read_text()
    assert "| gptj | – | ✓ |" in written
    assert "| bert | ? | ? |" in written
    assert "* no\\_attention \\| here **gptj** (classification)" in written
    assert "* its process ended with 3 **mamba** (" in written
    capsys.readouterr()

    command.main(["gpt2", "llama", "--out", str(out)])
    shown = capsys.readouterr().out
    assert shown.startswith("llama")
    assert "classification                  2" in shown
    monkeypatch.setattr(command, "code", lambda: "changed since")
    command.main(["gpt2", "--out", str(out)])
    assert list(json.loads(out.read_text())["families"]) == ["gpt2"]
    with pytest.raises(SystemExit):
        command.main(["gpt5"])
    assert "gpt5: no such family; allowed: afmoe" in capsys.readouterr().err


def test_a_family_that_cannot_be_built_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    ((name, outcome),) = judge.judge("gemma4_assistant")
    assert (name, outcome["outcome"]) == ("model", NOT_BUILT)
    assert "hidden_size_per_layer_input must be 0" in outcome["why"]
    monkeypatch.setattr(build, "LARGEST", 100)
    ((_, outcome),) = judge.judge("gpt2")
    assert "a size is not shrunk" in outcome["why"]


def test_what_does_not_do_what_it_says_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Isolate, attention: Attention, attend: Attend) -> object:
        return attend(attention)

    monkeypatch.setattr(Isolate, "__call__", nothing)
    outcomes = dict(judge.judge("gpt2"))
    assert [name for name, outcome in outcomes.items() if outcome["outcome"] != RIGHT] == ["isolation"]
    assert outcomes["isolation"]["outcome"] == WRONG
    assert "label_first_1" in outcomes["isolation"]["why"]
    assert table.in_short(outcomes).startswith("7 right, 1 wrong  isolation: ")


def test_rounding_is_no_wrong_number() -> None:
    """What is wrong in float32, as some small gradients of OLMo are on some processors, is judged again in float64."""
    classification = judge.experiments()[0]
    found = judge._settled("gpt2", classification, made_up.task(), {"outcome": WRONG, "why": "by 0.0002"})
    assert found["outcome"] == RIGHT
    assert found["why"].startswith("in float64: ")
