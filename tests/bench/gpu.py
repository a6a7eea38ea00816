"""Everything that only a GPU can show, in one command that fits into some minutes: `make gpu` (DEVICE=cpu tries it out).

right: every experiment on toys against the CPU; fast: each against the plain protocol on the same device; quiet: how often
the host waits and how long the device is idle; long: saliency of long prompts. It writes gpu.json and gpu.md into `--out`
after every part, so that what was measured is kept if time runs out. No hub: models are made on the device.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig

from anchorflow.attention import SaliencyFlow, tapped
from anchorflow.experiments import Classification, Compression, Experiment, Isolation, LabelRelationships, Reweighting
from anchorflow.experiments.flows import FLOWS
from anchorflow.models import LanguageModel, Tiny, toys
from anchorflow.prompts import PromptBuilder
from anchorflow.runs import memory
from anchorflow.runs.compute import Memory, compute
from anchorflow.scoring import Batch, label_log_probabilities, next_word_logits
from tests.bench.experiments import ROWS, Row
from tests.bench.label_relationships import made_series
from tests.bench.machine import Device, Shape, shapes, task
from tests.small_experiments import EXPERIMENTS

SEED = 42
QUERIES, FEW = 100, 5
"""Queries of our side, and of the plain side, whose time is scaled to as many."""
GOALS = {
    "classification": 10,
    "attention_prediction": 10,
    "isolation": 10,
    "reweighting": 15,
    "compression": 5,
    "saliency": 4,
    "label_relationships": 20,
}
"""How many times faster than the plain protocol: on an H100, GPT-J's shape in bfloat16, one demonstration per class."""


# --- right ----------------------------------------------------------------------------------------


def right(device: Device) -> list[dict[str, Any]]:
    """Every experiment on toys: in float32 against the CPU, in bfloat16 against float32."""
    found = []
    for family in ("gpt2", "gptj", "llama"):
        for experiment in EXPERIMENTS:
            expected = _records(experiment, Tiny(family=family, layers=3).load("cpu", "float32"))
            there = _records(experiment, Tiny(family=family, layers=3).load(device.name, "float32"))
            small = _records(experiment, Tiny(family=family, layers=3).load(device.name, "bfloat16"))
            again = _records(experiment, Tiny(family=family, layers=3).load(device.name, "bfloat16"), budget=10_000)
            row = {"family": family, "experiment": experiment.name, "apart": _apart(there, expected)}
            if experiment.name == "saliency":
                row["bfloat16_shares_apart"] = max(
                    abs(a - b) for a, b in zip(_shares(small), _shares(there), strict=True)
                )
            if "variants" in small[0]:
                row["bfloat16_same_label"] = statistics.mean(
                    _label(a) == _label(b) for a, b in zip(small, again, strict=True)
                )
            row["ok"] = row["apart"] < 1e-4 and row.get("bfloat16_shares_apart", 0) < 0.02
            found.append(row)
    return found


def _records(experiment: Experiment, lm: LanguageModel, budget: int = 300) -> list[Any]:
    with tempfile.TemporaryDirectory() as folder:
        found = compute(experiment, lm, task(), Memory(Path(folder)), seed=SEED, batch_tokens=budget).records
    for record in found:
        record.pop("seconds", None)
        record.pop("query_vectors", None)  # base64
    return found


def _apart(found: Any, expected: Any) -> float:
    """The largest difference of two numbers at one place."""
    if isinstance(found, Mapping):
        return max((_apart(found[key], expected[key]) for key in found if key != "top5"), default=0.0)
    if isinstance(found, (list, tuple)):
        return max((_apart(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
    return abs(found - expected) / max(1.0, abs(expected)) if isinstance(found, float) else 0.0


def _shares(records: Sequence[Any]) -> list[float]:
    kinds = [[statistics.mean(layer) for layer in zip(*(r[k] for r in records), strict=True)] for k in FLOWS]
    return [value / (sum(layer) or 1.0) for layer in zip(*kinds, strict=True) for value in layer]


def _label(record: Any) -> int:
    probs = next(iter(record["variants"].values()))["probs"]
    return int(max(range(len(probs)), key=probs.__getitem__))


# --- fast -----------------------------------------------------------------------------------------


def fast(device: Device) -> Iterator[dict[str, Any]]:
    """Each experiment against the plain protocol: the same device, the same dtype."""
    tflops: dict[str, float] = {}
    for name, shape in shapes(device.name).items():
        if shape.dtype not in tflops:
            tflops[shape.dtype] = device.matmul_tflops(getattr(torch, shape.dtype))
        lm = shape.load(device.name)
        for shots in shape.shots:
            for experiment, row in ROWS.items():
                if not shape.only or experiment in shape.only:
                    yield {"shape": name, **_compared(device, lm, row, shots, tflops[shape.dtype])}
        if not shape.only or "label_relationships" in shape.only:
            yield {"shape": name, **_curve(device, lm)}
        del lm


def _compared(device: Device, lm: LanguageModel, row: Row, shots: int, tflops: float) -> dict[str, Any]:
    queries, few = (QUERIES, FEW) if device.cuda else (8, 2)
    experiment = replace(row.experiment, n_queries=queries, shots_per_class=shots)
    if isinstance(experiment, Reweighting):
        experiment = replace(experiment, epochs=10 if device.cuda else 1)
    if isinstance(experiment, Isolation) and not device.cuda:
        experiment = replace(experiment, first_or_last_k=(1,))
    builder = PromptBuilder(lm.tokenizer, task().template, task().label_words, "\n")
    whole = experiment.prepare(task(), builder, SEED)
    work = replace(whole, prompts=whole.prompts[:few])
    found: dict[str, Any] = {"experiment": experiment.name, "shots": shots, "queries": queries}
    found["tokens"] = statistics.mean(len(prompt.ids) for prompt in whole.prompts)

    def ours(count: int = queries) -> Any:
        chosen = replace(experiment, n_queries=count)
        with tempfile.TemporaryDirectory() as folder:
            store = Memory(Path(folder))
            return compute(chosen, lm, task(), store, seed=SEED, batch_tokens="auto").batch_tokens

    ours(few)  # warms up
    with device.peak(found):
        found["ours_s"] = device.seconds(lambda: found.update(batch_tokens=ours()))
    once: list[Any] = []
    short = replace(work, training=whole.training[:2]) if hasattr(work, "training") else work
    row.each(lm, replace(work, prompts=whole.prompts[:1]), row.once(lm, _one_epoch(experiment), short))  # warms up
    at_once = device.seconds(lambda: once.append(row.once(lm, _one_epoch(experiment), work)))
    epochs = experiment.epochs if isinstance(experiment, Reweighting) else 1
    each = device.seconds(lambda: row.each(lm, work, once[0]))
    found["plain_s"] = at_once * epochs + each * queries / few
    found["ratio"] = found["plain_s"] / found["ours_s"]
    found["goal"] = GOALS[experiment.name]
    found["queries_per_s"] = queries / found["ours_s"]
    found["share_of_matmul"] = _flops(lambda: ours()) / found["ours_s"] / (tflops * 1e12)
    takes = memory.demand(lm.source, experiment, str(lm.dtype).removeprefix("torch.")) if lm.source else None
    if takes is not None and "peak_gb" in found:
        found["estimated_gb"] = (takes.of(found["batch_tokens"]) - memory.BESIDES) / 1e9
    return found


def _one_epoch(experiment: Any) -> Any:
    return replace(experiment, epochs=1) if isinstance(experiment, Reweighting) else experiment


def _flops(work: Callable[[], Any]) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _curve(device: Device, lm: LanguageModel) -> dict[str, Any]:
    from anchorflow.scoring import label_log_probabilities_along

    n = 40 if device.cuda else 4
    words = len(toys.tokenizer())
    series = [s for s in made_series(n) for _ in range(8 if device.cuda else 1)]
    series = [replace(s, ids=type(s.ids)("i", [i % words for i in s.ids])) for s in series]
    found: dict[str, Any] = {"experiment": "label_relationships", "shots": n, "queries": len(series)}
    found["tokens"] = len(series[0].ids)

    @torch.no_grad()
    def separate() -> None:
        for target in series[0].targets:
            ids = torch.tensor([list(series[0].ids[: target + 1])], device=device.name)
            torch.log_softmax(lm.model(input_ids=ids, use_cache=False).logits[0, -1, [1, 2]], dim=0).tolist()

    label_log_probabilities_along(lm, series[:1])
    separate()
    with device.peak(found):
        found["ours_s"] = device.seconds(lambda: label_log_probabilities_along(lm, series))
    found["plain_s"] = device.seconds(separate) * len(series)
    found["ratio"], found["goal"] = found["plain_s"] / found["ours_s"], GOALS["label_relationships"]
    found["queries_per_s"] = len(series) / found["ours_s"]
    return found


# --- quiet ----------------------------------------------------------------------------------------


def quiet(device: Device) -> list[dict[str, Any]]:
    """How often the host waits for the device, and how busy that is."""
    from anchorflow.experiments import Saliency

    shape = next(iter(shapes(device.name).values()))
    lm = shape.load(device.name)
    experiments: list[Experiment] = [
        Saliency(n_queries=60, keep_examples=0),
        Isolation(n_queries=60, first_or_last_k=(1,)),
        LabelRelationships(repetitions=8, n_demonstrations=20, regimes=("default", "flipped")),
        Classification(n_queries=60),
        Compression(n_queries=60, random_sets=2),
    ]
    return [_busy(device, lm, experiment) for experiment in experiments]


def _busy(device: Device, lm: LanguageModel, experiment: Experiment) -> dict[str, Any]:
    builder = PromptBuilder(lm.tokenizer, task().template, task().label_words, "\n")
    work = experiment.prepare(task(), builder, SEED)
    budget = 8192 if device.cuda else 1024
    batches = experiment.plan(work.units, budget)

    def go() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for _ in experiment.map(lm, work, batches, Path(folder), budget):
                pass

    go()
    found: dict[str, Any] = {"experiment": experiment.name, "batches": len(batches)}
    if not device.cuda:
        return found
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        go()
    torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in said if "synchron" in str(warning.message)]
    found["waits_per_batch"] = len(waits) / len(batches)
    places: dict[str, int] = {}
    for warning in waits:
        place = f"{Path(warning.filename).name}:{warning.lineno}"
        places[place] = places.get(place, 0) + 1
    found["waits"] = dict(sorted(places.items(), key=lambda pair: -pair[1])[:8])
    activities = [torch.profiler.ProfilerActivity.CUDA]
    wall = device.seconds(go)
    with torch.profiler.profile(activities=activities) as profile:
        go()
        device.wait()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    found["kernels_per_layer"] = len(kernels) / len(batches) / lm.shape.layers
    found["idle_share"] = max(0.0, 1 - sum(event.device_time_total for event in kernels) / 1e6 / wall)
    by_name: dict[str, float] = {}
    for event in kernels:
        by_name[event.name[:80]] = by_name.get(event.name[:80], 0.0) + event.device_time_total / 1e6
    found["longest"] = dict(sorted(by_name.items(), key=lambda pair: -pair[1])[:8])
    return found


# --- long -----------------------------------------------------------------------------------------


def long(device: Device) -> Iterator[dict[str, Any]]:
    """Saliency of one long prompt on LLaMA-7B's shape."""
    if device.cuda:
        config = LlamaConfig(max_position_embeddings=2**15, bos_token_id=None, eos_token_id=None)
        lengths = (1024, 4096, 16384)
    else:
        config = toys.config("llama", len(toys.tokenizer()), 2, 4, 32)
        lengths = (64, 256)
    lm = Shape(config).load(device.name)
    for length in lengths:
        found: dict[str, Any] = {"tokens": length}
        try:
            with device.peak(found):
                found["seconds"] = device.seconds(lambda n=length: _saliency_of(lm, n, device.name))
        except torch.OutOfMemoryError as error:
            found["error"] = str(error).splitlines()[0]
        yield found


def _saliency_of(lm: LanguageModel, length: int, device: str) -> None:
    anchors = torch.tensor([[length // 4, length // 2, 3 * length // 4]], device=device)
    batch = Batch(
        context=(),
        ids=torch.ones(1, length, dtype=torch.long, device=device),
        targets=torch.tensor([length - 1], device=device),
        anchors=anchors,
        is_anchor=torch.ones_like(anchors, dtype=torch.bool),
        labels=torch.tensor([0], device=device),
        label_tokens=torch.tensor([1, 2, 3], device=device),
    )
    flow = SaliencyFlow(lm.shape, batch.anchors, batch.is_anchor, batch.targets)
    with torch.enable_grad(), tapped(lm.model, flow, only=batch.targets):
        flow.gather(-label_log_probabilities(next_word_logits(lm, batch), batch)[0, 0]).tolist()


# --- what comes out -------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Device], Any]] = {"right": right, "fast": fast, "quiet": quiet, "long": long}
COLUMNS = {
    "right": ("family", "experiment", "apart", "bfloat16_shares_apart", "bfloat16_same_label", "ok"),
    "fast": (
        *("shape", "experiment", "shots", "tokens", "queries", "plain_s", "ours_s", "ratio", "goal", "queries_per_s"),
        *("batch_tokens", "peak_gb", "estimated_gb", "share_of_matmul"),
    ),
    "quiet": ("experiment", "batches", "waits_per_batch", "kernels_per_layer", "idle_share"),
    "long": ("tokens", "seconds", "peak_gb", "error"),
}


def markdown(found: Mapping[str, Any]) -> str:
    """The tables, for the docs."""
    lines = [" · ".join(f"{key}: {value}" for key, value in found["machine"].items()), ""]
    for part, columns in COLUMNS.items():
        rows = found.get(part)
        if rows:
            shown = [column for column in columns if any(column in row for row in rows)]
            lines += [f"## {part}", "", "| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
            lines += ["| " + " | ".join(_cell(row.get(column)) for column in shown) + " |" for row in rows]
            lines.append("")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "" if value is None else str(value)


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help=f"some of {', '.join(PARTS)}; default: all")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu"))
    chosen = parser.parse_args()
    if chosen.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device is {chosen.device!r}, and this machine has no GPU; allowed here: cpu")
    if unknown := set(chosen.part) - set(PARTS):
        parser.error(f"{unknown.pop()} is not one of {', '.join(PARTS)}")
    torch.backends.cuda.matmul.allow_tf32 = False
    device = Device(chosen.device)
    chosen.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": {**device.describe(), "date": f"{datetime.now():%Y-%m-%d}"}}
    for part in chosen.part or PARTS:
        started = time.perf_counter()
        rows = found[part] = []
        for row in PARTS[part](device):
            rows.append(row)
            (chosen.out / "gpu.json").write_text(json.dumps(found, indent=1))
            (chosen.out / "gpu.md").write_text(markdown(found))
        print(f"{part}: {time.perf_counter() - started:.0f} s", flush=True)
    print(markdown(found))
    if not all(row["ok"] for row in found.get("right", [])):
        raise SystemExit("not right: see the rows without ok")


if __name__ == "__main__":
    main()
