"""Saliency on a model of GPT-2 small's size (random weights): ours against the plain loop, time and peak memory.

python -m tests.bench.saliency            the table
python -m tests.bench.saliency ours 512   one cell, for its peak memory (used by the table)
"""

import copy
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

LENGTHS = {128: 16, 512: 6, 2048: 2}
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


def peak_mb(side: str, length: int) -> float:
    """Peak memory above that of the loaded model, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.saliency", side, str(length)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _memory(field: str) -> float:
    """VmRSS or VmHWM (its peak) of this process in MB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


def main() -> None:
    """Print the table; or, with a side and a length, one cell's peak memory in MB."""
    plain_lm = gpt2_small()
    lm = prepare(plain_lm.name, copy.deepcopy(plain_lm.model), plain_lm.tokenizer)
    models = {"ours": lm, "plain": plain_lm}
    if len(sys.argv) == 3:
        side, length = sys.argv[1], int(sys.argv[2])
        prompts = made_prompts(length, min(LENGTHS[length], max(1, BUDGET // length)))
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of loading
        before = _memory("VmRSS")
        SIDES[side](models[side], prompts)
        print(_memory("VmHWM") - before)
        return
    print("saliency, GPT-2-small-sized, 6 demonstrations; medians of", ROUNDS, "rounds")
    print(
        f"{'N':>5} {'prompts':>7} {'plain s':>8} {'ours s':>8} {'ratio':>6} {'plain MB':>9} {'ours MB':>8} {'max diff':>9}"
    )
    for length, count in LENGTHS.items():
        prompts = made_prompts(length, count)
        seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        found = {}
        for _ in range(ROUNDS):
            for side, run in SIDES.items():
                started = time.perf_counter()
                found[side] = torch.tensor(run(models[side], prompts), dtype=torch.float64)
                seconds[side].append(time.perf_counter() - started)
        a, b = statistics.median(seconds["plain"]), statistics.median(seconds["ours"])
        ratio = statistics.median(p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True))
        difference = ((found["ours"] - found["plain"]).abs() / found["plain"].clamp(min=1e-12)).max().item()
        memory = {side: peak_mb(side, length) for side in SIDES}
        print(
            f"{length:>5} {count:>7} {a:>8.2f} {b:>8.2f} {ratio:>5.1f}x {memory['plain']:>9.0f} {memory['ours']:>8.0f} "
            f"{difference:>9.1e}"
        )


if __name__ == "__main__":
    main()
