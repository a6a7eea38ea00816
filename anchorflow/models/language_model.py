"""A decoder language model that is ready to be measured."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Shape:
    """What can be known of a model before its weights are loaded."""

    name: str
    layers: int
    heads: int

    @classmethod
    def of(cls, name: str, config: Any) -> Shape:
        """Read from transformers' configuration."""
        text = config.get_text_config()
        return cls(name, int(text.num_hidden_layers), int(text.num_attention_heads))


class Model(Protocol):
    """Where a language model comes from: a node of the configuration."""

    @property
    def name(self) -> str:
        """What results and directories call it."""
        ...

    def shape(self) -> Shape:
        """What can be known without the weights. UserError where it cannot be had."""
        ...

    def load(self, device: str, dtype: str) -> LanguageModel:
        """The model in evaluation mode. UserError where it cannot be had or does not fit the machine."""
        ...


@dataclass(frozen=True)
class LanguageModel:
    """A model ready to be measured: evaluation mode, no gradients to its parameters."""

    name: str
    model: PreTrainedModel
    tokenizer: Any
    source: Model | None = None
    """Where it was loaded from."""

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return self.model.dtype

    @property
    def shape(self) -> Shape:
        """How many layers and heads there are."""
        return Shape.of(self.name, self.model.config)

    @property
    def max_length(self) -> int | None:
        """The longest prompt in tokens; None where the model sets no limit."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    @property
    def revision(self) -> str | None:
        """The commit on the hub that the weights came from; None for weights that did not come from there."""
        return getattr(self.model.config, "_commit_hash", None)


def prepare(name: str, model: Any, tokenizer: Any, source: Model | None = None) -> LanguageModel:
    """Evaluation mode, frozen parameters, and changes that save time and cost no digit worth having."""
    from torch import nn
    from transformers.activations import FastGELUActivation, NewGELUActivation

    from anchorflow.models import onednn

    model.eval()
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name_, child in module.named_children():
            if isinstance(child, (NewGELUActivation, FastGELUActivation)):
                # The same formula in one kernel instead of eight, which took a sixth of GPT-2's time.
                setattr(module, name_, nn.GELU(approximate="tanh"))
    if onednn.mkl_is_slow():
        onednn.through_onednn(model)
    if model.device.type == "cpu":
        _keep_freed_memory()
    return LanguageModel(name, model, tokenizer, source)


def _keep_freed_memory() -> None:
    """Ask glibc not to hand each batch's tensors back to the system, which would map them page by page again."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library: no harm, less speed
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never shrink the heap
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, too
