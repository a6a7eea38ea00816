"""What a simulation says of memory against what real passes take: bytes of tensors that live at once."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from anchorflow.errors import UserError
from anchorflow.experiments import Classification, Experiment, LabelRelationships, Saliency
from anchorflow.models import Pretrained, Tiny
from anchorflow.models.language_model import prepare
from anchorflow.models.simulation import Peak, simulated, weights_bytes
from anchorflow.runs import memory
from tests.conftest import FAMILIES


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("experiment", [Classification(), Saliency(), LabelRelationships()], ids=lambda e: e.name)
def test_a_simulation_takes_what_the_real_pass_takes(family: str, dtype: str, experiment: Experiment) -> None:
    model = Tiny(family=family, layers=9, width=64)
    found = memory.demand(model, experiment, dtype)
    assert found is not None
    lm = prepare("real", AutoModelForCausalLM.from_config(model.config(), dtype=getattr(torch, dtype)), None)
    assert found.weights == weights_bytes(lm.model)
    kind = memory.kind(experiment)
    real = memory._passes[kind](lm)
    # Without a context a real pass needs no mask, which a simulation makes, and then no copies of grouped keys either.
    assert 0.85 * real < found.token * memory.TOKENS < (1.5 if kind == "whole" else 1.15) * real


def test_the_keys_and_values_of_a_position_are_those_that_a_context_keeps() -> None:
    from anchorflow.attention import read

    model = Tiny(family="llama", layers=3)
    found = memory.demand(model, Classification(), "float32")
    assert found is not None
    assert read(model.load("cpu", "float32").model, [1] * 10, "cpu").bytes == 10 * found.position
    assert found.of(100, context=10) == pytest.approx(
        found.weights + memory.BESIDES + 100 * found.token + 10 * found.position
    )


def test_a_peak_counts_what_lives_at_once_and_no_view_twice() -> None:
    held = torch.ones(1000)
    with Peak() as peak:
        a = held * 2  # 4000 bytes
        b = a[:10].view(2, 5)
        del a, b
        c = held + 1
        d = c + 1
    assert peak.bytes == 8000
    assert d.numel() == held.numel()


def test_a_simulation_leaves_no_weights_and_eight_bits_are_a_byte_four_a_little_more_than_half() -> None:
    with simulated(Tiny(width=64).config(), "float32") as lm:
        whole, eight, four = (weights_bytes(lm.model, kind) for kind in (None, "8bit", "4bit"))
    assert whole / 4 < eight < whole
    quantized = (whole - eight) / 3  # numbers, each a byte instead of four
    assert eight - four == pytest.approx(quantized * (0.5 - 4 / 64), abs=1)


def test_a_model_that_a_gpu_cannot_hold_is_refused_before_its_weights_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Card:
        total_memory = 2**20

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card())
    wide: Any = Tiny(width=512, layers=4)
    with pytest.raises(UserError, match=r"model tiny in float32 takes 0\.0 GB, cuda has 0\.0 GB; use a smaller dtype"):
        memory.refuse_too_large(wide, Saliency(), "cuda", "float32")
    memory.refuse_too_large(wide, Saliency(), "cpu", "float32")
    spread: Any = Pretrained(name="far", path="far/away", device_map="auto")
    memory.refuse_too_large(spread, Saliency(), "cuda", "float32")


def test_a_model_that_cannot_be_simulated_costs_its_estimate_and_no_run(caplog: pytest.LogCaptureFixture) -> None:
    class Routed:
        name = "routed"

        def config(self) -> Any:
            raise RuntimeError("aten._local_scalar_dense.default\nand more")

    model: Any = Routed()
    assert memory.demand(model, Saliency(), "float32") is None
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "the memory of model routed is unknown: it cannot be simulated (aten._local_scalar_dense.default)"
    ]
    without: Any = object()
    assert memory.demand(without, Saliency(), "float32") is None
