"""A loaded decoder language model, and what is known about it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from anchorflow.errors import UserError
from anchorflow.models.abilities import Abilities

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Shape:
    """The size of a model, known before its weights are loaded."""

    name: str
    layers: int
    heads: int
    """Query heads of an attention layer; 0 if the model has none."""
    attention_layers: tuple[int, ...] | None = None
    """The layers (from 0) with attention, if not all have it: hybrid models have other layers, recurrent ones only others."""
    max_length: int | None = None
    """The longest prompt in tokens; None if the model sets no limit.

    With longrope, the limit is the length at which the model switches its rotary frequencies: a longer text would change
    those of the shorter texts in its batch.
    """

    @property
    def attending(self) -> tuple[int, ...]:
        """The layers (from 0) that have attention maps."""
        return tuple(range(self.layers)) if self.attention_layers is None else self.attention_layers

    @classmethod
    def of(cls, name: str, config: Any) -> Shape:
        """The shape that transformers' configuration gives. UserError if there is no single stack of decoder layers."""
        text = config.get_text_config(decoder=True)
        if not hasattr(text, "num_hidden_layers"):
            raise UserError(f"{name}: a model of type {config.model_type!r} has no single stack of decoder layers.")
        layers, heads = int(text.num_hidden_layers), getattr(text, "num_attention_heads", None)
        found = attention_layers(text)
        return cls(name, layers, int(heads or 0), None if len(found) == layers else found, _max_length(text))


def _max_length(config: Any) -> int | None:
    longest: int | None = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    for each in (rope, *(part for part in rope.values() if isinstance(part, dict))):
        if each.get("rope_type") == "longrope" and (first := each.get("original_max_position_embeddings")):
            longest = min(longest or first, first)
    return longest


WITHOUT_ATTENTION = {"linear_attention", "mamba", "conv", "recurrent", "moe", "mlp"}
"""Names in configurations for layers without attention maps."""


def attention_layers(config: Any) -> tuple[int, ...]:
    """The layers (from 0) of a decoder's configuration that have attention maps."""
    layers = int(config.num_hidden_layers)
    if not getattr(config, "num_attention_heads", None):
        return ()
    kinds = getattr(config, "layer_types", None) or ()
    if len(kinds) != layers:
        return tuple(range(layers))
    return tuple(i for i, kind in enumerate(kinds) if kind not in WITHOUT_ATTENTION)


class Model(Protocol):
    """What the node `model` of the configuration describes: something that loads a language model."""

    @property
    def name(self) -> str:
        """The name in results and directories."""
        ...

    def shape(self) -> Shape:
        """The size of the model, read without its weights. UserError if it cannot be found."""
        ...

    def load(self, device: str, dtype: str) -> LanguageModel:
        """Load the model in evaluation mode. UserError if it cannot be found or loaded, or does not fit the device."""
        ...


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model with its tokenizer, in evaluation mode and with frozen parameters."""

    name: str
    model: PreTrainedModel
    tokenizer: Any
    source: Model | None = None
    """The object that loaded it."""
    can: Abilities = field(default_factory=Abilities)
    """The properties that it has: `"padding" in lm.can`. A run and `load_model` check them when they load the model."""

    @property
    def device(self) -> torch.device:
        """The device of the embedding, where token ids must be."""
        return self.model.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' dtype."""
        return self.model.dtype

    @property
    def shape(self) -> Shape:
        """The numbers of layers and heads."""
        return Shape.of(self.name, self.model.config)

    @property
    def parameters(self) -> int:
        """The number of weights: tied ones once, quantised ones as if they were not."""
        return int(self.model.num_parameters())

    @property
    def max_length(self) -> int | None:
        """The longest prompt in tokens; None if the model sets no limit."""
        return _max_length(self.model.config.get_text_config(decoder=True))

    @property
    def revision(self) -> str | None:
        """The commit on the hub that the weights came from; None for other weights."""
        return getattr(self.model.config, "_commit_hash", None)


def prepare(name: str, model: Any, tokenizer: Any, source: Model | None = None) -> LanguageModel:
    """Set evaluation mode, freeze the parameters, and apply speed-ups that change results only by rounding."""
    from torch import nn
    from transformers.activations import FastGELUActivation, NewGELUActivation

    from anchorflow.models import onednn

    model.eval()
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name_, child in module.named_children():
            if isinstance(child, (NewGELUActivation, FastGELUActivation)):
                # The same formula in one kernel instead of eight, which took a sixth of GPT-2's run time.
                setattr(module, name_, nn.GELU(approximate="tanh"))
    if onednn.mkl_is_slow():
        onednn.through_onednn(model)
    if model.device.type == "cpu":
        _keep_freed_memory()
    return LanguageModel(name, model, tokenizer, source)


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: otherwise the system maps every batch's tensors again, page by page."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library: slower, nothing else
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never shrink the heap
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, too
