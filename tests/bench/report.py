"""Reports of 1,000 runs and, with `python -m tests.bench.report 10`, of 10,000: time, memory, size of the page.

Made-up runs in about the mixture of the presets: the first paper's seven experiments with 4 models, 4 datasets and 5
seeds, the second paper's with 8 models, 9 datasets and 6 sets of regimes. Ten times as many have ten times the seeds.
"""

import contextlib
import io
import itertools
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from anchorflow import cli
from anchorflow.conf_files import conf_dir, option_groups
from anchorflow.results import Curve, Result
from tests.report.made_up import made_up
from tests.report.runs import write_run, write_unfinished

LAYERS = 48
PLACES = 70
FEW_SHOT = [name for name in option_groups([conf_dir()])["experiment"] if name != "label_relationships"]
REGIMES = (("random",), ("flipped",), ("replaced_A_B", "replaced_B_A"), ("noise_0.25", "noise_0.5"), ("flip_after_20",))
INSTRUCTED = "invert"
GOALS = {1: "45 s", 10: "240 s, 3 GB, a page of 30 MB"}
"""For this many thousand runs on 2 cores."""


def main(thousands: int = 1) -> None:
    """Make them, report on them, and say what it took."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "outputs"
        make(runs, thousands)
        size = sum(path.stat().st_size for path in runs.rglob("result.json")) / 1e6
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main(["report", str(runs)])
        took = time.perf_counter() - started
        files = [path for path in (runs / "report").rglob("*") if path.is_file()]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        page = (runs / "report" / "index.html").stat().st_size / 1e6
        print(
            f"report: {len(list(runs.rglob('status.json')))} runs ({size:.0f} MB) in {took:.1f} s, {memory:.1f} GB (of one "
            f"process), page {page:.1f} MB, {len(files)} files; goal {GOALS.get(thousands, 'none')}"
        )


def make(runs: Path, thousands: int = 1) -> None:
    """So many thousand run directories, 8 of each without a result."""
    draw = random.Random(0)
    models, datasets = [f"model-{i}" for i in range(8)], [f"dataset-{i}" for i in range(9)]
    few_shot = itertools.product(FEW_SHOT, models[:4], datasets[:4], range(42, 42 + 5 * thousands))
    for experiment, model, dataset, seed in few_shot:
        places = 4 if experiment == "isolation" else LAYERS
        result = made_up(experiment, numbers(draw), places=places)
        write_run(
            runs / experiment / model / dataset / str(seed), experiment, result, model=model, dataset=dataset, seed=seed
        )
    instructions = [("none", regimes) for regimes in REGIMES] + [(INSTRUCTED, REGIMES[1])]
    seeds = range(42, 42 + thousands)
    for model, dataset, (instruction, regimes), seed in itertools.product(models, datasets, instructions, seeds):
        shown = ["default", *regimes]
        settings = {"regimes": shown, "instruction": instruction, "n_demonstrations": PLACES}
        folder = runs / "label_relationships" / model / dataset / "-".join([instruction, *regimes]) / str(seed)
        names = {"model": model, "dataset": dataset, "seed": seed}
        write_run(folder, "label_relationships", of_labels(draw, shown), settings=settings, **names)
    for i in range(8 * thousands):
        write_unfinished(runs / "unfinished" / str(i))


def numbers(draw: random.Random) -> Iterator[float]:
    while True:
        yield draw.random()


def of_labels(draw: random.Random, regimes: list[str]) -> Result:
    """A result of label_relationships with a curve over 70 places for each regime and measure."""

    def curve() -> Curve:
        return Curve("n_demonstrations", range(PLACES), *[[draw.random() for _ in range(PLACES)] for _ in range(2)])

    curves = {f"{name}/{measure}": curve() for name in regimes for measure in ("accuracy", "log_likelihood", "entropy")}
    turning = [name for name in regimes if name.startswith("flip")]
    curves |= {f"{name}/flipped_{measure}": curve() for name in turning for measure in ("accuracy", "log_likelihood")}
    metrics = {"default_minus_guessing": draw.random(), "default_minus_guessing_p": draw.random()}
    for name in regimes[1:]:
        metrics |= {f"default_minus_{name}": draw.random(), f"default_minus_{name}_p": draw.random()}
    return Result(metrics, curves=curves)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
