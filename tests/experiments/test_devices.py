"""Every experiment on pretended GPUs: the CPU's numbers, no tensor of another device, and a host that rarely waits."""

import math
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch.utils._pytree import tree_flatten

from anchorflow.attention.reach import decoder_layers
from anchorflow.data import Task
from anchorflow.experiments import Experiment
from anchorflow.experiments.diagnosis import _unpacked
from anchorflow.experiments.flows import FLOWS
from anchorflow.models import LanguageModel, Tiny
from anchorflow.prompts import PromptBuilder
from tests import pretended
from tests.conftest import FAMILIES
from tests.small_experiments import EXPERIMENTS

pytestmark = pytest.mark.slow
BUDGET = 300
ONCE = {"anchorflow/attention/kv_cache.py:save", "anchorflow/attention/saliency.py:read"}
"""Where a host may wait for each layer: what is kept beside the records, once a run."""
each_experiment = pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.name)
each_family = pytest.mark.parametrize("family", FAMILIES)


def toy(family: str, layers: int = 3, dtype: str = "float64") -> LanguageModel:
    return Tiny(family=family, layers=layers).load("cpu", dtype)


def records(experiment: Experiment, lm: LanguageModel, task: Task, folder: Path) -> list[Any]:
    """As a run makes them, but for the times that compression takes."""
    builder = PromptBuilder(lm.tokenizer, task.template, task.label_words, task.separator)
    work = experiment.prepare(task, builder, 42)
    batches = experiment.plan(work.units, BUDGET)
    found: list[Any] = [record for batch in experiment.map(lm, work, batches, folder, BUDGET) for record in batch]
    for record in found:
        record.pop("seconds", None)
        if "query_vectors" in record:
            record["query_vectors"] = [_unpacked(vector).tolist() for vector in record["query_vectors"]]
    return found


def assert_close(found: list[Any], expected: list[Any]) -> None:
    """Equal but for what another kernel (of GELU, of attention) rounds otherwise."""
    values, shape = tree_flatten(found)
    wanted, wanted_shape = tree_flatten(expected)
    assert shape == wanted_shape
    numbers = [(a, b) for a, b in zip(values, wanted, strict=True) if isinstance(a, float)]
    assert [a for a, _ in numbers] == pytest.approx([b for _, b in numbers], rel=1e-6, abs=1e-9)
    assert [a for a in values if not isinstance(a, float)] == [b for b in wanted if not isinstance(b, float)]


def spread(lm: LanguageModel, first: torch.device, second: torch.device) -> None:
    """The first layers and the embeddings on one device, the last layers and the head on another, as `device_map` does."""
    layers = list(decoder_layers(lm.model))
    end = [child for name, child in lm.model.base_model.named_children() if name in ("norm", "ln_f")]
    half = len(layers) // 2 + 1
    pretended.moved(lm.model, first)
    for device, modules in (
        (first, layers[:half]),
        (second, [*layers[half:], *end, lm.model.get_output_embeddings()]),
    ):
        for module in modules:
            pretended.moved(module, device)
            add_hook_to_module(module, AlignDevicesHook(execution_device=device, skip_keys="past_key_values"))


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Callable[..., None]]:
    """Calls a function in another process (see tests/pretended.py)."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


Elsewhere = Callable[..., None]


@each_family
@each_experiment
def test_the_numbers_of_the_cpu_on_a_gpu(
    elsewhere: Elsewhere, experiment: Experiment, family: str, task: Task, tmp_path: Path
) -> None:
    elsewhere(compare_on_a_gpu, experiment, family, task, tmp_path)


def compare_on_a_gpu(experiment: Experiment, family: str, task: Task, folder: Path) -> None:
    expected = records(experiment, toy(family), task, folder)
    lm = toy(family)
    pretended.moved(lm.model, pretended.device())
    with pretended.watched():
        assert_close(records(experiment, lm, task, folder), expected)


@each_family
@pytest.mark.parametrize(
    ("experiment", "second"),
    [
        pytest.param(experiment, second, id=f"{experiment.name}-{second}")
        for experiment in EXPERIMENTS
        for second in ("cpu", "gpu")
        if second == "cpu" or experiment.name not in ("saliency", "reweighting")
    ],
)
def test_and_spread_over_two_devices(
    elsewhere: Elsewhere, experiment: Experiment, second: str, family: str, task: Task, tmp_path: Path
) -> None:
    """Of a made-up kind torch's autograd knows one device: gradients go over to the CPU alone."""
    elsewhere(compare_on_two, experiment, second, family, task, tmp_path)


def compare_on_two(experiment: Experiment, second: str, family: str, task: Task, folder: Path) -> None:
    expected = records(experiment, toy(family), task, folder)
    lm = toy(family)
    spread(lm, pretended.device(0), torch.device("cpu") if second == "cpu" else pretended.device(1))
    with pretended.watched():
        assert_close(records(experiment, lm, task, folder), expected)


@each_experiment
def test_the_host_waits_no_more_often_for_more_layers(
    elsewhere: Elsewhere, experiment: Experiment, task: Task, tmp_path: Path
) -> None:
    elsewhere(count_waits, experiment, task, tmp_path)


def count_waits(experiment: Experiment, task: Task, folder: Path) -> None:
    def waits(layers: int) -> Counter[tuple[str, str]]:
        lm = toy("llama", layers)
        pretended.moved(lm.model, pretended.device())
        with pretended.watched() as watch:
            records(experiment, lm, task, folder)
        return Counter(watch.waits)

    few, many = waits(2), waits(6)
    more = {where: n for where, n in many.items() if n > few[where] and where[1] not in ONCE}
    assert few
    assert not more, more


def test_a_pretended_gpu_refuses_what_a_gpu_would(elsewhere: Elsewhere) -> None:
    elsewhere(mix_devices)


def mix_devices() -> None:
    with pretended.watched() as watch:
        there = torch.ones(3, device=pretended.device())
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3, device=pretended.device(1))
        assert not watch.waits
        assert (there + 1).sum().item() == 6
        assert [str(operation) for operation, _ in watch.waits] == ["aten._local_scalar_dense.default"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@each_family
@each_experiment
def test_half_precision_keeps_the_findings(
    experiment: Experiment, family: str, dtype: str, task: Task, tmp_path: Path
) -> None:
    whole = records(experiment, toy(family, dtype="float32"), task, tmp_path)
    half = records(experiment, toy(family, dtype=dtype), task, tmp_path)
    assert probabilities(half) == pytest.approx(probabilities(whole), abs=0.05)
    if "S_wp" in whole[0]:
        of_half, of_whole = shares(half), shares(whole)
        assert np.abs(of_half - of_whole).max() < 0.02


def probabilities(found: list[Any]) -> list[float]:
    if "regimes" in found[0]:
        curves = [regime["log_probabilities"] for record in found for regime in record["regimes"].values()]
        return [math.exp(value) for curve in curves for at in curve for value in at]
    return [p for record in found for variant in record["variants"].values() for p in variant["probs"]]


def shares(found: list[Any]) -> np.ndarray:
    """[flow, layer]"""
    flows = np.array([[record[name] for name in FLOWS] for record in found]).mean(axis=0)
    return flows / np.maximum(flows.sum(axis=0), 1e-30)
