"""How long a user waits before anything happens: `--help`, a configuration error, the first query of a second start."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 7


def seconds(*arguments: str) -> float:
    """Median wall-clock time of a command."""
    found = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, cwd=tempfile.gettempdir())
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def processor_seconds(*arguments: str) -> float:
    """Median processor time of a command, on one thread."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, *arguments],
            check=True,
            capture_output=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(found)


def main() -> None:
    """Print the table."""
    launch = str(ROOT / "launch.py")
    hydra, helped = seconds("-c", "import hydra"), seconds(launch, "--help")
    wrong = seconds(launch, "experiment.n_queries=0", f"hydra.run.dir={tempfile.mkdtemp()}")
    print(
        f"import hydra {hydra:.2f} s, --help {helped:.2f} s ({helped / hydra:.1f} x), configuration error {wrong:.2f} s"
    )
    libraries = processor_seconds("-c", "import torch; from transformers import AutoTokenizer, LlamaForCausalLM")
    options = ["model=tiny", "experiment=classification", "experiment.n_queries=4", "tracking=none"]
    short = processor_seconds(launch, *options, f"hydra.run.dir={tempfile.mkdtemp()}/${{now:%S%f}}")
    print(
        f"processor time: a run of 4 queries {short:.1f} s, import torch and a model of transformers {libraries:.1f} s"
    )
    for start in ("first", "second"):
        folder = Path(tempfile.mkdtemp())
        options = ["experiment.n_queries=1", "tracking=none", f"hydra.run.dir={folder}"]
        started = time.perf_counter()
        subprocess.run([sys.executable, launch, *options], check=True, capture_output=True, cwd=ROOT)
        total = time.perf_counter() - started
        run_s = json.loads((folder / "result.json").read_text())["timing"]["run_s"]
        print(f"default model, {start} start here: {total - run_s:.1f} s before the first query")


if __name__ == "__main__":
    main()
