"""How long 1,000 cells take to be planned and submitted to a real SLURM, and `anchorflow status` over 1,000 finished runs."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conftest import ROOT, write_dataset
from tests.sweep.cluster import Cluster

SHAPES = 10
EXPERIMENTS = ("saliency", "classification", "isolation", "attention_prediction", "diagnosis")
SEEDS = 20


def timed(*command: str, cwd: Path) -> tuple[float, str]:
    """Seconds, and what was said last."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, (done.stdout or done.stderr).strip().splitlines()[-1]


def main() -> None:
    """Print both."""
    why = Cluster.missing()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = write_dataset(folder / "data", train=40, test=100)
        grid = [
            *("-m", "model=tiny", f"model.layers=range(7,{7 + SHAPES})", f"experiment={','.join(EXPERIMENTS)}"),
            *(f"seed=range(0,{SEEDS})", "dataset=local", "dataset.name=local", f"dataset.path={data}", "tracking=none"),
        ]
        cells = SHAPES * len(EXPERIMENTS) * SEEDS
        launch = (sys.executable, str(ROOT / "launch.py"), *grid)
        seconds, _ = timed(*launch, "launcher=slurm", "sweep.dry_run=true", cwd=folder)
        print(f"{cells} cells planned: {seconds:.1f} s")
        if why:
            print(f"not submitted: {why}")
        else:
            cluster = Cluster(folder / "slurm")
            cluster.start()
            os.environ.update(cluster.environment)
            held = ("launcher=slurm", "launcher.partition=held", "launcher.packs=100", "sweep.wait=false")
            seconds, _ = timed(*launch, *held, cwd=folder)
            print(f"{cells} cells planned and submitted in 100 packs: {seconds:.1f} s (goal: 30)")
            status = (sys.executable, "-m", "anchorflow", "status", "outputs")
            seconds, last = timed(*status, cwd=folder)
            print(f"anchorflow status, {last}: {seconds:.1f} s")
            cluster.stop()
            shutil.rmtree(folder / "outputs")
        for number in range(1000):
            run = folder / "outputs" / "saliency" / "tiny" / "local" / f"seed{number}"
            run.mkdir(parents=True)
            (run / "result.json").write_text('{"identity": "", "metrics": {}}')
            said = {
                "state": "completed",
                "progress": {"done": 100, "total": 100},
                "host": "n1",
                "job_id": f"7_{number}",
            }
            (run / "status.json").write_text(json.dumps(said))
        seconds, last = timed(sys.executable, "-m", "anchorflow", "status", "outputs", cwd=folder)
        print(f"anchorflow status, {last}: {seconds:.1f} s (goal: 5)")


if __name__ == "__main__":
    main()
