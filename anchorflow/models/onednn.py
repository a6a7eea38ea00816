"""Linear maps through oneDNN on AMD's processors with AVX-512, at twice the speed.

There PyTorch multiplies float32 matrices by Intel's MKL, which uses AVX-512 on Intel's processors alone. oneDNN, which
PyTorch has along, uses it on AMD's: on two cores of a Zen 5 EPYC 280-400 instead of 150-185 GFLOP/s for 128 rows or more,
and as much faster for a single one (Zen 4: not measured). On Intel's it was no faster: nothing is changed there. Both
sum in float32, and differ by rounding.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D


def mkl_is_slow() -> bool:
    """Whether this is an AMD processor with AVX-512 (told on Linux alone), and oneDNN is there."""
    try:
        amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return amd and wide and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def through_onednn(model: nn.Module) -> None:
    """Let the linear maps on the CPU, of a model with frozen parameters, take this way from now on, where they are float32.

    Subclasses (quantised ones, say) are left alone, and what an offloading library has put its hands on.
    """
    for module in model.modules():
        if type(module) in (nn.Linear, Conv1D) and "forward" not in vars(module) and module.weight.device.type == "cpu":
            module.forward = partial(_forward, module)


def _forward(module: Any, inputs: Float[Tensor, "... inputs"]) -> Float[Tensor, "... outputs"]:
    weight = module.weight.t() if isinstance(module, Conv1D) else module.weight
    if not inputs.dtype == weight.dtype == torch.float32:
        return nn.functional.linear(inputs, weight, module.bias)
    output: Tensor = _Linear.apply(inputs, weight, module.bias)  # type: ignore[no-untyped-call]
    return output


class _Linear(torch.autograd.Function):
    """oneDNN's product, which has no gradient of its own."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        return _product(grad_output, ctx.weight.t()), None, None


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    output: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return output
