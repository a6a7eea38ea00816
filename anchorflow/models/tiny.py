"""A tiny model with random weights, made without a download."""

from __future__ import annotations

from typing import Any, Literal

from anchorflow.models.language_model import LanguageModel, Shape, prepare
from anchorflow.models.resources import Resources
from anchorflow.settings import configurable, setting


@configurable
class Tiny:
    """A small model with random weights and a toy tokenizer, without a download: for tests and dry runs."""

    name: str = setting(default="tiny", kind="shown")
    """The name in results and directories."""
    family: Literal["gpt2", "gptj", "llama"] = "llama"
    """The architecture; llama has two query heads per key head."""
    layers: int = 8
    """Decoder layers."""
    heads: int = 4
    """Attention heads of a layer."""
    width: int = 32
    """The size of the hidden states."""
    seed: int = 0
    """The seed of the weights."""
    resources: Resources | None = setting(default=None, kind="run")
    """Resources of its SLURM jobs that differ from the launcher's."""

    def __post_init__(self) -> None:
        for key in ("layers", "heads", "width"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}; allowed: 1 or more")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^63 - 1")
        if self.width % (2 * self.heads):
            raise ValueError(f"width is {self.width}; allowed: a multiple of 2 × heads ({2 * self.heads})")

    def shape(self) -> Shape:
        """As configured."""
        from anchorflow.models import toys

        return Shape(self.name, self.layers, self.heads, max_length=toys.POSITIONS)

    def tokenizer(self) -> Any:
        """The made-up one."""
        from anchorflow.models import toys

        return toys.tokenizer()

    def load(self, device: str, dtype: str) -> LanguageModel:
        """Make the model: the same settings give the same weights. The caller's random state does not change."""
        import torch
        from transformers import AutoModelForCausalLM

        config = self.config()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = AutoModelForCausalLM.from_config(config)
        # Buffers (rotary frequencies) keep the precision that they have in a pretrained model.
        for parameter in model.parameters():
            parameter.data = parameter.data.to(getattr(torch, dtype))
        return prepare(self.name, model.to(device), self.tokenizer(), self)

    def config(self) -> Any:
        """Transformers' configuration."""
        from anchorflow.models import toys

        return toys.config(self.family, len(self.tokenizer()), self.layers, self.heads, self.width)
