"""A decoder language model that is ready to be measured."""

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
    """What can be known of a model before its weights are loaded."""

    name: str
    layers: int
    heads: int
    """Of an attention layer; 0 where the model has none."""
    attention_layers: tuple[int, ...] | None = None
    """Those that attend (from 0), where not all do: a hybrid model has others, a recurrent one no such layer."""
    max_length: int | None = None
    """The longest prompt in tokens; None where the model sets no limit.

    With longrope it ends where the model changes its positions: a longer text would change those of every shorter one in
    its batch.
    """

    @property
    def attending(self) -> tuple[int, ...]:
        """The layers (from 0) that have attention maps."""
        return tuple(range(self.layers)) if self.attention_layers is None else self.attention_layers

    @classmethod
    def of(cls, name: str, config: Any) -> Shape:
        """Read from transformers' configuration."""
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
"""What configurations call layers that have no attention maps."""


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
    can: Abilities = field(default_factory=Abilities)
    """What it can be asked, and how: `"padding" in lm.can`. Found out when a run or `load_model` loads it."""

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
    def parameters(self) -> int:
        """The number of weights: tied ones once, quantised ones as if they were not."""
        return int(self.model.num_parameters())

    @property
    def max_length(self) -> int | None:
        """The longest prompt in tokens; None where the model sets no limit."""
        return _max_length(self.model.config.get_text_config(decoder=True))

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
