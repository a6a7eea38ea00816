"""Saliency on a model of GPT-2 small's size (random weights): ours against the plain loop, time and peak memory."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GPT2Config

from anchorflow import toys
from anchorflow.experiments import Saliency
from anchorflow.models import LanguageModel, prepare
from anchorflow.prompts import Demonstration, Prompt
from anchorflow.scoring import plan
from tests.bench import plain

LENGTHS = {128: 16, 512: 4, 2048: 1}
"""Prompts of each length in tokens."""
ROUNDS = 3
BUDGET = 1024


def gpt2_small() -> LanguageModel:
    """GPT-2 small from its configuration, with room for 2048 positions."""
    torch.manual_seed(0)
    config = GPT2Config(n_positions=2048, bos_token_id=None, eos_token_id=None)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    return LanguageModel("gpt2-small-sized", model, toys.tokenizer())


def made_prompts(length: int, count: int, anchors: int = 6) -> list[Prompt]:
    """Random tokens with label words at even distances: the numbers do not matter here, the shapes do."""
    generator = torch.Generator().manual_seed(length)
    step = length // (anchors + 1)
    prompts = []
    for query in range(count):
        ids = torch.randint(1, 50000, (length,), generator=generator).tolist()
        parts = tuple(
            Demonstration(k, k * step, (k + 1) * step, (k + 1) * step - 1, ((k + 1) * step - 1,), ())
            for k in range(anchors)
        )
        prompts.append(Prompt(query, query % anchors, tuple(ids), parts, tuple(range(100, 100 + anchors)), ""))
    return prompts


def ours(lm: LanguageModel, prompts: list[Prompt]) -> list[list[list[float]]]:
    """[prompt][kind][layer], in the prompts' order."""
    records = [r for rs in Saliency().map(lm, plan(prompts, BUDGET)) for r in rs]
    records.sort(key=lambda record: record["query"])
    return [[record[flow] for flow in ("S_wp", "S_pq", "S_ww")] for record in records]


def theirs(lm: LanguageModel, prompts: list[Prompt]) -> list[list[list[float]]]:
    """The same from the plain loop."""
    lm.model.config._attn_implementation = "plain_gated"
    try:
        return [flow.T.tolist() for flow in plain.saliency(lm.model, prompts)]
    finally:
        lm.model.config._attn_implementation = "sdpa"


SIDES = {"ours": ours, "plain": theirs}


def serve(side: str, length: int) -> None:
    """One side in a process of its own, as a user would run it: a line in is one round, its seconds come out.

    When the input ends, the peak memory above that of the loaded model and the numbers found come out.
    """
    lm = gpt2_small()
    if side == "ours":
        lm = prepare(lm.name, lm.model, lm.tokenizer)
    prompts = made_prompts(length, LENGTHS[length])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
    before = _memory("VmRSS")
    found: list[list[list[float]]] = []
    for _ in sys.stdin:
        started = time.perf_counter()
        found = SIDES[side](lm, prompts)
        print(time.perf_counter() - started, flush=True)
    print(json.dumps({"mb": _memory("VmHWM") - before, "found": found}))


def _memory(field: str) -> float:
    """VmRSS or VmHWM (its peak) of this process in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


def compare(length: int) -> None:
    """A row of the table: both sides take turns."""
    workers = {
        side: subprocess.Popen(
            [sys.executable, "-m", "tests.bench.saliency", side, str(length)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for side in SIDES
    }
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(1 + ROUNDS):  # the first round warms up
        for side, worker in workers.items():
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
            seconds[side].append(float(worker.stdout.readline()))
    ends = {side: json.loads(worker.communicate()[0]) for side, worker in workers.items()}
    ours, plain_ = (torch.tensor(ends[side]["found"], dtype=torch.float64) for side in ("ours", "plain"))
    difference = ((ours - plain_).abs() / plain_.clamp(min=1e-12)).max().item()
    median = {side: statistics.median(times[1:]) for side, times in seconds.items()}
    ratio = statistics.median(p / o for p, o in zip(seconds["plain"][1:], seconds["ours"][1:], strict=True))
    print(
        f"{length:>5} {LENGTHS[length]:>7} {median['plain']:>8.2f} {median['ours']:>8.2f} {ratio:>5.2f}x "
        f"{ends['plain']['mb']:>9.0f} {ends['ours']['mb']:>8.0f} {difference:>9.1e}",
        flush=True,
    )


def main() -> None:
    """Print the table (or, with a side and a length, be a worker of it)."""
    if len(sys.argv) == 3:
        serve(sys.argv[1], int(sys.argv[2]))
        return
    print("saliency, GPT-2-small-sized, 6 demonstrations; medians of", ROUNDS, "rounds")
    print(
        f"{'N':>5} {'prompts':>7} {'plain s':>8} {'ours s':>8} {'ratio':>6} {'plain MB':>9} {'ours MB':>8} {'max diff':>9}"
    )
    for length in LENGTHS:
        compare(length)


if __name__ == "__main__":
    main()
