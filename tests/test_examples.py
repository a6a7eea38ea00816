"""The scripts of examples/ run on toys. `examples/library.py` runs in test_installed.py, outside of the checkout."""

import runpy
import sys
from pathlib import Path

import matplotlib.image
import pytest

import anchorflow as af
from tests.conftest import ROOT


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    """Run a script of examples/ in this process."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")


def test_a_prompt_becomes_a_flow_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "flow.py", "tiny", str(tmp_path / "flow"))
    assert "true Positive" in capsys.readouterr().out
    picture = matplotlib.image.imread(tmp_path / "flow" / "flow.png")
    arcs = (abs(picture[..., :3] - 211 / 255) < 0.01).all(axis=-1)  # in the colour of flows between words
    assert arcs.sum() > 1000


def test_two_models_are_compared_from_their_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = af.load_model(af.Tiny(layers=2, seed=1))
    lm.model.save_pretrained(tmp_path / "mine")
    lm.tokenizer.save_pretrained(tmp_path / "mine")
    run(monkeypatch, "compare_models.py", "tiny", str(tmp_path / "mine"), str(tmp_path / "runs"))
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith(("saliency, mine", "saliency, tiny"))]
    assert [row[-1] for row in rows] == ["2", "2"]  # seeds
    assert (tmp_path / "runs" / "compare.png").stat().st_size > 1000
    assert set(af.read_runs(tmp_path / "runs")["model"]) == {"mine", "tiny"}
