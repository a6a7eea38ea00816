"""oneDNN's products are those of PyTorch, forward and backward; they are taken where they pay, and nothing else is touched."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from anchorflow.attention import SaliencyFlow, tapped
from anchorflow.models import Tiny, onednn

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this PyTorch has no oneDNN; its builds for Linux on x86 do",
)

AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\n"
INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\n"


def made(kind: str) -> nn.Module:
    """A map from 24 to 40 numbers with frozen weights."""
    module = Conv1D(40, 24) if kind == "conv1d" else nn.Linear(24, 40, bias=kind == "linear")
    nn.init.normal_(module.weight)
    return module.requires_grad_(False)


def applied(module: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Its output, and the gradient of a sum that weighs every number of it differently."""
    inputs = inputs.clone().requires_grad_()
    output = module(inputs)
    (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)).sum().backward()
    assert inputs.grad is not None
    return output.detach(), inputs.grad


@pytest.mark.parametrize("kind", ["linear", "without bias", "conv1d"])
@pytest.mark.parametrize("shape", [(24,), (1, 24), (7, 24), (3, 1, 24), (3, 50, 24)])
def test_output_and_gradient_are_those_of_float64(kind: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module, inputs = made(kind), torch.randn(shape)
    onednn.through_onednn(module)
    found = applied(module, inputs)
    expected = applied(module.double(), inputs.double())  # which takes PyTorch's own way
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "without bias", "conv1d"])
def test_inputs_and_gradients_may_lie_in_memory_in_any_order(kind: str) -> None:
    torch.manual_seed(0)
    module, inputs = made(kind), torch.randn(24, 5, 3).permute(2, 1, 0)
    expected = applied(module, inputs.contiguous())
    onednn.through_onednn(module)
    for ours, theirs in zip(applied(module, inputs), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(module(inputs), expected[0], rtol=1e-5, atol=1e-5)


def test_subclasses_and_maps_that_someone_else_has_changed_are_left_alone() -> None:
    class Quantised(nn.Linear):
        pass

    theirs = partial(nn.functional.linear, weight=torch.eye(4))
    offloaded = nn.Linear(4, 4)
    offloaded.forward = theirs  # type: ignore[method-assign,assignment]  # as accelerate does
    model = nn.ModuleList(
        [Quantised(4, 4), offloaded, nn.Linear(4, 4, device="meta"), nn.LayerNorm(4), nn.Linear(4, 4)]
    )
    onednn.through_onednn(model)
    assert offloaded.forward is theirs
    assert ["forward" in vars(module) for module in model] == [False, True, False, False, True]


@pytest.mark.parametrize(
    ("cpuinfo", "capability", "slow"),
    [(AMD, "AVX512", True), (AMD, "AVX2", False), (INTEL, "AVX512", False), (None, "AVX512", False)],
)
def test_it_pays_on_amd_with_avx512(
    cpuinfo: str | None, capability: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_text(path: Path) -> str:
        assert path == Path("/proc/cpuinfo")
        if cpuinfo is None:
            raise FileNotFoundError(path)
        return cpuinfo

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert onednn.mkl_is_slow() is slow


@pytest.mark.parametrize("family", ["gpt2", "gptj", "llama"])
def test_a_model_gives_the_same_logits_and_flows_either_way(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([11, 11])
    found = []
    for slow in (False, True):
        monkeypatch.setattr(onednn, "mkl_is_slow", lambda slow=slow: slow)
        lm = Tiny(family=family, layers=3).load("cpu", "float32")  # type: ignore[arg-type]
        assert slow is any("forward" in vars(module) for module in lm.model.modules())
        flow = SaliencyFlow(lm.shape, torch.tensor([[3, 7], [4, 8]]), torch.ones(2, 2, dtype=torch.bool), targets)
        with tapped(lm.model, flow, only=targets):
            logits = lm.model(input_ids=ids).logits[:, -1]
            found.append((logits.detach(), flow.gather(logits.logsumexp(-1).sum())))
    (logits, flows), (again, flows_again) = found
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(flows_again, flows, rtol=1e-3, atol=1e-6)
