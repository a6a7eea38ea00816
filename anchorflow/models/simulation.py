"""Measure a model's memory without using any: run its code on tensors with a size but no data."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from anchorflow.models.language_model import LanguageModel


class Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within its block, `bytes` is the peak memory of the tensors made there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._now = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Account for one operation, whose output may be new or a view of its arguments."""
        for tensor in tree_iter((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self._seen.add(tensor.untyped_storage())
        found = func(*args, **(kwargs or {}))
        for tensor in tree_iter(found):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self._seen:
                self._seen.add(storage)
                self._now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
                self.bytes = max(self.bytes, self._now)
        return found

    def _freed(self, size: int) -> None:
        self._now -= size


@contextmanager
def simulated(config: Any, dtype: str) -> Iterator[LanguageModel]:
    """Within the block, a model of this configuration that takes no memory and whose passes compute nothing."""
    from transformers import AutoModelForCausalLM

    from anchorflow.models.language_model import prepare

    with FakeTensorMode(allow_non_fake_inputs=True):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        yield prepare("simulated", model, None)


BYTES = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
"""Bytes of a quantized number; with 4 bits, each block of 64 also has a float32 scale."""


def weights_bytes(model: PreTrainedModel, quantization: str | None = None) -> int:
    """Bytes of parameters and buffers, tied ones counted once. Only the linear layers of decoder layers are quantized."""
    head = model.get_output_embeddings()
    small = {
        id(module.weight)
        for module in model.modules()
        if quantization is not None and isinstance(module, (nn.Linear, Conv1D)) and module is not head
    }
    tensors = (*model.parameters(), *model.buffers())
    return int(sum(t.numel() * (BYTES[str(quantization)] if id(t) in small else t.element_size()) for t in tensors))
