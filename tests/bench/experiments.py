"""Each experiment of "Label Words are Anchors" against the plain protocol: time, peak memory, growth, and the numbers.

`python -m tests.bench.experiments [EXPERIMENT ...] [--queries N] [--rounds N] [--table whole|growth]`
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from transformers import AutoTokenizer

from anchorflow.experiments import (
    AttentionPrediction,
    Classification,
    Compression,
    Isolation,
    Reweighting,
    Saliency,
)
from anchorflow.experiments.flows import FLOWS
from anchorflow.models import LanguageModel
from anchorflow.prompts import PromptBuilder
from anchorflow.results import Record
from anchorflow.scoring import plan
from anchorflow.settings import build
from tests.bench import plain
from tests.bench.sides import SIDES, Side, difference, gpt2_small, serve

CONF = Path(__file__).parent.parent.parent / "conf"
SEED = 42
BUDGET = 1024
QUERIES = 100
FEW = 10
"""So many queries the plain side takes in the table of growth: its steps are alike, so its time is scaled to all."""
SHOTS = (1, 2, 5)
WARM = 2
"""So many queries (and training examples) in the round that warms up."""

Once = Callable[[LanguageModel, Any, Any], Any]
Each = Callable[[LanguageModel, Any, Any], Sequence[Record]]


@dataclass(frozen=True)
class Row:
    """An experiment as the tables take it. `goal` is the least ratio of times that it is to reach.

    The plain side is what happens `once`, whatever the number of queries, and then `each` query. For growth the
    experiment is a `smaller` one, and the plain side takes few queries; where its time is not `scaled`, ours does too.
    """

    experiment: Any
    goal: float
    each: Each
    once: Once = lambda lm, experiment, work: None
    smaller: Any = None
    scaled: bool = True


def _isolated(lm: LanguageModel, experiment: Isolation, work: Any) -> dict[str, tuple[Sequence[int], Sequence[int]]]:
    prompt = work.prompts[0]
    return {
        change.name: (change.layers, experiment.positions(prompt, change, 0, work.seed))
        for change in experiment.changes(lm.shape)
    }


def _learned(lm: LanguageModel, experiment: Reweighting, work: Any) -> Any:
    return plain.learn(lm.model, work.training, experiment.lr, experiment.epochs, work.seed)


def _reweighted(lm: LanguageModel, work: Any, learned: Any) -> Sequence[Record]:
    beta, losses = learned
    first, *others = plain.reweighting(lm.model, work.prompts, beta)
    return [{**first, "learned": {"train_loss": losses}}, *others]


def _kept(lm: LanguageModel, experiment: Compression, work: Any) -> dict[str, plain.Kept]:
    prompt = work.prompts[0]
    return plain.keep(lm.model, prompt, experiment.positions_kept(prompt, work.seed))


def _flows(lm: LanguageModel, work: Any, _: Any) -> Sequence[Record]:
    flows = plain.saliency(lm.model, work.prompts)
    return [
        {"query": p.query, **dict(zip(FLOWS, flow.T.tolist(), strict=True))}
        for p, flow in zip(work.prompts, flows, strict=True)
    ]


ROWS = {
    "classification": Row(Classification(), 8, lambda lm, work, _: plain.classification(lm.model, work.prompts)),
    "isolation": Row(
        Isolation(),
        8,
        lambda lm, work, isolated: plain.isolation(lm.model, work.prompts, isolated),
        _isolated,
        smaller=Isolation(first_or_last_k=(5,)),
    ),
    "attention_prediction": Row(
        AttentionPrediction(), 8, lambda lm, work, _: plain.attention_prediction(lm.model, work.prompts)
    ),
    "reweighting": Row(Reweighting(), 10, _reweighted, _learned, smaller=Reweighting(epochs=1)),
    "compression": Row(
        Compression(),
        4,
        lambda lm, work, kept: plain.compression(lm.model, work.prompts, work.text_anchors, kept),
        _kept,
        smaller=Compression(random_sets=2),
    ),
    "saliency": Row(Saliency(), 2, _flows, scaled=False),
}


def be(side: str, name: str, shots: int, queries: int, growth: bool) -> None:
    """One side of a row: an order is how many of the queries to take, or `warm`."""
    row = ROWS[name]
    tokenizer = AutoTokenizer.from_pretrained(_tokenizer(), local_files_only=True)
    lm = gpt2_small(side, tokenizer)
    config: Any = OmegaConf.to_container(OmegaConf.load(CONF / "dataset" / "trec.yaml"), resolve=True)
    task = build(config, "dataset").load()
    builder = PromptBuilder(tokenizer, task.template, task.label_words, task.separator)
    chosen = (row.smaller or row.experiment) if growth else row.experiment
    experiment = replace(chosen, n_queries=queries, shots_per_class=shots)
    whole = experiment.prepare(task, builder, SEED)
    training = getattr(whole, "training", ())
    longest = max(len(prompt.ids) for prompt in (*whole.prompts, *training))
    if lm.max_length is not None and longest > lm.max_length:
        raise SystemExit(f"{shots} demonstrations per class take up to {longest} tokens, the model {lm.max_length}")

    def turn(order: str) -> tuple[dict[str, float], dict[str, Any]]:
        count = WARM if order == "warm" else int(order)
        work = replace(whole, prompts=whole.prompts[:count])
        if order == "warm" and training:
            work = replace(work, training=training[:WARM])
        started = time.perf_counter()
        if side == "ours":
            once, records = started, ours(lm, experiment, work)
        else:
            start = row.once(lm, experiment, work)
            once, records = time.perf_counter(), list(row.each(lm, work, start))
        ended = time.perf_counter()
        tokens = statistics.mean(len(prompt.ids) for prompt in work.prompts)
        return {"once": once - started, "each": ended - once}, {"tokens": tokens, "records": records}

    serve(turn)


def ours(lm: LanguageModel, experiment: Any, work: Any) -> list[Record]:
    """As a run does it."""
    batches = plan(work.prompts, BUDGET, shared=experiment.demonstrations == "per seed")
    with tempfile.TemporaryDirectory() as folder:
        return [record for records in experiment.map(lm, work, batches, Path(folder), BUDGET) for record in records]


def _tokenizer() -> str:
    """Where the tokenizer of the default model lies; prompts are as long as its users' are."""
    config: Any = OmegaConf.to_container(OmegaConf.load(CONF / "model" / "smollm2-135m.yaml"), resolve=True)
    return build(config, "model")._converted()


def compare(name: str, shots: int, queries: int, rounds: int, growth: bool = False) -> str:
    """One row: the sides take turns, after a round that warms up."""
    row = ROWS[name]
    few = min(FEW, queries)
    asked = {"ours": few if growth and not row.scaled else queries, "plain": few if growth else queries}
    arguments = (name, shots, queries, int(growth))
    sides = {which: Side("tests.bench.experiments", "--be", which, *arguments) for which in SIDES}
    for side in sides.values():
        side.turn("warm")
    seconds: dict[str, list[float]] = {which: [] for which in SIDES}
    for _ in range(rounds):
        for which, side in sides.items():
            spent = side.turn(str(asked[which]))
            seconds[which].append(spent["once"] + spent["each"] * asked["ours"] / asked[which])
    ends = {which: side.end() for which, side in sides.items()}
    median = {which: statistics.median(times) for which, times in seconds.items()}
    ratio = statistics.median(p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True))
    found = {which: end["found"] for which, end in ends.items()}
    apart, other_words = disagreement(found["ours"]["records"], found["plain"]["records"])
    return (
        f"{name:<21} {shots:>5} {found['ours']['tokens']:>6.0f} {asked['ours']:>7} "
        f"{median['plain']:>8.2f} {median['ours']:>8.2f} {ratio:>6.2f}x {row.goal:>4.0f}x "
        f"{ends['plain']['mb']:>9.0f} {ends['ours']['mb']:>8.0f} {apart:>9.1e}"
        + (f"  (the five most probable words differ {other_words} times)" if other_words else "")
    )


def disagreement(ours: Sequence[Record], plain: Sequence[Record]) -> tuple[float, int]:
    """The largest relative difference of any number, and how often the most probable words are others.

    ValueError where ours has not the same variants or lacks a number of the plain side.
    """
    mine = {record["query"]: record for record in ours}
    learned = next((record["learned"] for record in ours if "learned" in record), None)
    apart, other_words = [], 0
    for theirs in plain:
        record = mine[theirs["query"]]
        apart += [difference(record[key], theirs[key]) for key in (*FLOWS, "label_attention") if key in theirs]
        if "learned" in theirs:
            assert learned is not None
            apart.append(difference(learned["train_loss"], theirs["learned"]["train_loss"]))
        if "variants" not in theirs:
            continue
        if record["variants"].keys() != theirs["variants"].keys():
            raise ValueError(f"variants differ: {list(record['variants'])} and {list(theirs['variants'])}")
        for name, found in theirs["variants"].items():
            apart.append(difference(record["variants"][name]["probs"], found["probs"]))
            other_words += set(record["variants"][name]["top5"]) != set(found["top5"])
    return max(apart), other_words


def heading() -> str:
    """Of both tables."""
    return (
        f"{'experiment':<21} {'shots':>5} {'tokens':>6} {'queries':>7} {'plain s':>8} {'ours s':>8} {'ratio':>7} {'goal':>5} "
        f"{'plain MB':>9} {'ours MB':>8} {'max diff':>9}"
    )


def main() -> None:
    """Print both tables (or be a side)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="*", help=f"some of {', '.join(ROWS)}; default: all")
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--table", choices=("whole", "growth"), help="one of the two; default: both")
    parser.add_argument("--be", nargs=5, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.be:
        side, name, shots, queries, growth = chosen.be
        be(side, name, int(shots), int(queries), bool(int(growth)))
        return
    names = chosen.experiment or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"{unknown[0]} is not one of {', '.join(ROWS)}")
    if min(chosen.queries, chosen.rounds) < 1:
        parser.error("--queries and --rounds are 1 or more")
    _tokenizer()  # converted once, before two processes want it
    rows: dict[str, str] = {}
    if chosen.table != "growth":
        print(
            "TREC, a GPT-2-small-sized model with random weights, float32. Plain: full prompts, one at a time, the whole\n"
            f"vocabulary's logits. Rounds: {chosen.rounds} (medians).\n" + heading(),
            flush=True,
        )
        for name in names:
            rows[name] = compare(name, SHOTS[0], chosen.queries, chosen.rounds)
            print(rows[name], flush=True)
        print()
    if chosen.table == "whole":
        return
    print(
        f"Growth with the demonstrations per class. The plain side takes {min(FEW, chosen.queries)} queries and its time for "
        "them is scaled to all (a loop of\nequal steps; what it does once is not scaled); saliency takes as few on both "
        "sides. Isolation with k=5 alone,\nre-weighting with 1 epoch, compression with 2 random sets.\n" + heading(),
        flush=True,
    )
    for name in names:
        same = ROWS[name].smaller is None and ROWS[name].scaled  # one demonstration per class has a row above
        for shots in SHOTS:
            known = rows.get(name) if same and shots == SHOTS[0] else None
            print(known or compare(name, shots, chosen.queries, chosen.rounds, growth=True), flush=True)


if __name__ == "__main__":
    main()
