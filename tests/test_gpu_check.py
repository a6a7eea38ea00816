"""`make gpu`, tried out on the CPU: every part ends and says what it measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.small_experiments import EXPERIMENTS


@pytest.mark.slow
def test_the_gpu_check_runs_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench.gpu", "--device", "cpu", "--out", str(tmp_path)]
    quiet = {**os.environ, "TQDM_DISABLE": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {row["experiment"] for row in found["right"]} == {e.name for e in EXPERIMENTS}
    assert max(row["apart"] for row in found["right"]) < 1e-4
    assert all(row["ratio"] > 0 and row["plain_s"] > 0 for row in found["fast"])
    assert [row["tokens"] for row in found["long"]] == [64, 256]
    table = (tmp_path / "gpu.md").read_text()
    assert all(f"## {part}" in table for part in ("right", "fast", "quiet", "long"))


def test_without_a_gpu_it_says_what_is_allowed() -> None:
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.bench.gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=hidden)
    assert done.returncode == 2
    assert "this machine has no GPU; allowed here: cpu" in done.stderr
