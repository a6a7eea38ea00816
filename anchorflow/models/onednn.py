"""Linear layers through oneDNN on AMD processors with AVX-512, at twice the speed.

PyTorch multiplies float32 matrices with Intel's MKL, which uses AVX-512 only on Intel processors. oneDNN, which PyTorch
also contains, uses it on AMD: on two cores of a Zen 5 EPYC, 280-400 instead of 150-185 GFLOP/s for 128 rows or more, and
the same gain for a single row (Zen 4 was not measured). On Intel it was no faster, so nothing is changed there. Both
accumulate in float32 and differ by rounding.
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
    """Whether this is an AMD processor with AVX-512 (detected on Linux only) and oneDNN is available."""
    try:
        amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return amd and wide and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def through_onednn(model: nn.Module) -> None:
    """Route the float32 linear layers on the CPU of a model with frozen parameters through oneDNN.

    Subclasses (such as quantised layers) and layers managed by an offloading library are left alone.
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
    """oneDNN's product, with the gradient that it lacks."""

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
