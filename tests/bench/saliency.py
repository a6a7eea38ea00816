"""Saliency on a model of GPT-2 small's size (random weights): ours against the plain loop, time and peak memory."""

import statistics
import sys
import time
from pathlib import Path

import torch

from anchorflow.experiments import Saliency
from anchorflow.experiments.flows import FLOWS
from anchorflow.experiments.saliency import SaliencyWork
from anchorflow.models import LanguageModel, toys
from anchorflow.prompts import Demonstration, Prompt
from anchorflow.scoring import plan
from tests.bench import plain
from tests.bench.sides import SIDES, Side, difference, gpt2_small, serve

LENGTHS = {128: 16, 512: 4, 2048: 1}
"""Prompts of each length in tokens."""
ROUNDS = 3
BUDGET = 1024


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
    work = SaliencyWork(prompts=tuple(prompts), seed=0)
    mapped = Saliency().map(lm, work, plan(prompts, BUDGET), Path(), BUDGET)  # it keeps no files
    records = [r for rs in mapped for r in rs]
    records.sort(key=lambda record: record["query"])
    return [[record[flow] for flow in FLOWS] for record in records]


def theirs(lm: LanguageModel, prompts: list[Prompt]) -> list[list[list[float]]]:
    """The same from the plain loop."""
    return [flow.T.tolist() for flow in plain.saliency(lm.model, prompts)]


def be(side: str, length: int) -> None:
    """One side: an order is a round of all prompts."""
    lm = gpt2_small(side, toys.tokenizer())
    prompts = made_prompts(length, LENGTHS[length])

    def turn(_: str) -> tuple[float, list[list[list[float]]]]:
        started = time.perf_counter()
        found = (ours if side == "ours" else theirs)(lm, prompts)
        return time.perf_counter() - started, found

    serve(turn)


def compare(length: int) -> None:
    """A row of the table: both sides take turns."""
    sides = {side: Side("tests.bench.saliency", side, length) for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(1 + ROUNDS):  # the first round warms up
        for name, side in sides.items():
            seconds[name].append(side.turn())
    ends = {name: side.end() for name, side in sides.items()}
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    ratio = statistics.median(p / o for p, o in zip(seconds["plain"][1:], seconds["ours"][1:], strict=True))
    print(
        f"{length:>5} {LENGTHS[length]:>7} {median['plain']:>8.2f} {median['ours']:>8.2f} {ratio:>5.2f}x "
        f"{ends['plain']['mb']:>9.0f} {ends['ours']['mb']:>8.0f} "
        f"{difference(ends['ours']['found'], ends['plain']['found']):>9.1e}",
        flush=True,
    )


def main() -> None:
    """Print the table (or, with a side and a length, be a side of it)."""
    if len(sys.argv) == 3:
        be(sys.argv[1], int(sys.argv[2]))
        return
    print("saliency, GPT-2-small-sized, 6 demonstrations; medians of", ROUNDS, "rounds")
    print(
        f"{'N':>5} {'prompts':>7} {'plain s':>8} {'ours s':>8} {'ratio':>6} {'plain MB':>9} {'ours MB':>8} {'max diff':>9}"
    )
    for length in LENGTHS:
        compare(length)


if __name__ == "__main__":
    main()
