"""Choose the device and the dtype of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from anchorflow.errors import UserError

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float64", "float32", "bfloat16", "float16"]
DTYPES: tuple[str, ...] = get_args(Dtype)


def choose_device(device: str) -> str:
    """The device; `auto` is the first accelerator, else the CPU. UserError if this machine does not have it."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        if torch.empty(0, device=device).is_meta:
            raise RuntimeError("tensors without numbers")
    except Exception as error:  # each type of device raises its own error
        have = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise UserError(
            f"device is {device!r}, which this machine does not have; allowed: {', '.join(have)}."
        ) from error
    return device


def choose_dtype(dtype: str, device: str) -> str:
    """The dtype; `auto` is float32 on the CPU, bfloat16 (float16 on older GPUs) on an accelerator. UserError if unsupported."""
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}.")
    lacking = _lacking(device)
    if dtype == "auto":
        if not device.startswith("cuda"):
            return "float32"
        return "float16" if "bfloat16" in lacking else "bfloat16"
    if dtype in lacking:
        allowed = ", ".join(name for name in DTYPES if name not in lacking)
        raise UserError(f"dtype is {dtype!r}, which {device} does not have; allowed: {allowed}.")
    return dtype


def _lacking(device: str) -> set[str]:
    """The dtypes that a device does not support, including those that it only emulates, many times slower."""
    import torch

    if device.startswith("cuda"):
        with torch.cuda.device(device):
            return set() if torch.cuda.is_bf16_supported(including_emulation=False) else {"bfloat16"}
    return {"float64"} if device.startswith("mps") else set()


def to_device(numbers: Sequence[Any], device: torch.device | str, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A tensor of these (nested) numbers on a device, copied without making the host wait."""
    import torch

    tensor = torch.tensor(numbers, dtype=dtype)
    if torch.device(device).type == "cuda":  # CUDA copies asynchronously only from pinned memory
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
