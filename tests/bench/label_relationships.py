"""A curve over N examples from one pass, against a prompt for every number of examples: time and the numbers.

And against one pass that computes the logits of every position over the whole vocabulary: memory.
`python -m tests.bench.label_relationships [N ...]`
"""

import statistics
import sys
import time
from array import array

import torch

from anchorflow.models import LanguageModel, toys
from anchorflow.prompts import Series
from anchorflow.scoring import label_log_probabilities_along, pack
from tests.bench.sides import Side, difference, gpt2_small, serve

SIZES = (10, 40)
TOKENS = 28
"""Of an example: SST-2's mean in the paper's prompt."""
ROUNDS = {"ours": 3, "separate": 1, "whole": 3}
"""How often each side takes its turn after warming up; `separate` is a loop of many equal steps."""
BUDGET = 1024


def made_series(n: int) -> list[Series]:
    """Random tokens: the numbers do not matter here, the shapes do."""
    generator = torch.Generator().manual_seed(n)
    ids = torch.randint(1, 50000, (n * TOKENS,), generator=generator).tolist()
    return [Series(array("i", ids), tuple(range(TOKENS - 1, n * TOKENS, TOKENS)), (100, 101))]


def ours(lm: LanguageModel, series: list[Series]) -> list[list[list[float]]]:
    """[series][example][label], as a run does it."""
    batches = pack(series, [len(one.ids) for one in series], BUDGET)
    return [scores.tolist() for batch in batches for scores in label_log_probabilities_along(lm, batch)]


@torch.no_grad()
def separate(lm: LanguageModel, series: list[Series]) -> list[list[list[float]]]:
    """A prompt for every number of examples, each cut right before its label."""

    def score(ids: list[int], words: tuple[int, ...]) -> list[float]:
        logits = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        return torch.log_softmax(logits[list(words)], dim=0).tolist()

    return [[score(list(s.ids[: target + 1]), s.label_tokens) for target in s.targets] for s in series]


@torch.no_grad()
def whole(lm: LanguageModel, series: list[Series]) -> list[list[list[float]]]:
    """One pass for each series, with the logits of all its positions over the whole vocabulary."""
    found = []
    for s in series:
        logits = lm.model(input_ids=torch.tensor([list(s.ids)]), use_cache=False).logits[0]
        found.append(torch.log_softmax(logits[list(s.targets)][:, list(s.label_tokens)], dim=1).tolist())
    return found


SIDES = {"ours": ours, "separate": separate, "whole": whole}


def be(side: str, n: int) -> None:
    """One side: an order is a round of all series, or `warm` for a short one."""
    lm = gpt2_small(side, toys.tokenizer())
    series = made_series(n)

    def turn(order: str) -> tuple[float, list[list[list[float]]]]:
        chosen = [one.first(2) for one in series] if order == "warm" else series
        started = time.perf_counter()
        found = SIDES[side](lm, chosen)
        return time.perf_counter() - started, found

    serve(turn)


def compare(n: int) -> None:
    """Print one row: the sides take turns."""
    sides = {side: Side("tests.bench.label_relationships", "--be", side, n) for side in SIDES}
    for side in sides.values():
        side.turn("warm")
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for i in range(max(ROUNDS.values())):
        for name, side in sides.items():
            if i < ROUNDS[name]:
                times[name].append(side.turn())
    ends = {name: side.end() for name, side in sides.items()}
    seconds = {name: statistics.median(found) for name, found in times.items()}
    apart = max(difference(ends["ours"]["found"], ends[name]["found"]) for name in SIDES)
    print(
        f"{n:>3} {seconds['separate']:>11.2f} {seconds['whole']:>8.2f} {seconds['ours']:>7.2f} "
        f"{seconds['separate'] / seconds['ours']:>6.1f}x {ends['separate']['mb']:>12.0f} {ends['whole']['mb']:>8.0f} "
        f"{ends['ours']['mb']:>8.0f} {apart:>9.1e}",
        flush=True,
    )


def main() -> None:
    """Print the table (or, with --be, a side and a number, be a side of it)."""
    if sys.argv[1:2] == ["--be"]:
        be(sys.argv[2], int(sys.argv[3]))
        return
    print(f"label relationships, GPT-2-small-sized, a curve over N examples of {TOKENS} tokens, float32")
    print("separate: a prompt for every number of examples; whole: one pass, all logits of the whole vocabulary")
    print(
        f"{'N':>3} {'separate s':>11} {'whole s':>8} {'ours s':>7} {'ratio':>7} {'separate MB':>12} {'whole MB':>8} "
        f"{'ours MB':>8} {'max diff':>9}"
    )
    for n in [int(size) for size in sys.argv[1:]] or SIZES:
        compare(n)


if __name__ == "__main__":
    main()
