"""The KV cache of a text that is prefilled once and seen by many continuations."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from anchorflow.attention.reach import decoder_config
from anchorflow.errors import UserError
from anchorflow.models import to_device
from anchorflow.results import write_atomically


@dataclass(frozen=True)
class Context:
    """Keys and values of some positions in every layer; `next_position` is the position of the next token.

    All queries with the same demonstrations share one context.
    """

    keys: tuple[Float[Tensor, "1 kv_head position dim"], ...]
    values: tuple[Float[Tensor, "1 kv_head position dim"], ...]
    next_position: int

    def __len__(self) -> int:
        """The number of kept positions."""
        return self.keys[0].shape[2] if self.keys else 0

    @property
    def bytes(self) -> int:
        """The memory of the keys and values in bytes."""
        return sum(t.numel() * t.element_size() for t in (*self.keys, *self.values))

    def select(self, positions: Sequence[int], next_position: int | None = None) -> Context:
        """A context with only these of the kept positions; the text continues where it did, or at `next_position`."""

        def kept(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
            places = to_device(positions, tensors[0].device)
            return tuple(t.index_select(2, places.to(t.device)) for t in tensors)

        return Context(
            kept(self.keys), kept(self.values), self.next_position if next_position is None else next_position
        )

    def cache(self) -> Cache | None:
        """The context as a transformers cache, for a batch of any size that continues it; None if the context is empty."""
        return Cache(layers=[_Lent(k, v) for k, v in zip(self.keys, self.values, strict=True)]) if len(self) else None

    def save(self, path: Path) -> None:
        """Write a safetensors file that `load` reads."""
        from safetensors.torch import save

        tensors = {f"key.{i}": t.cpu().contiguous() for i, t in enumerate(self.keys)}
        tensors |= {f"value.{i}": t.cpu().contiguous() for i, t in enumerate(self.values)}
        write_atomically(path, save(tensors, metadata={"next_position": str(self.next_position)}))

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> Context:
        """Read what `save` wrote. UserError for any other file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt", device=str(device)) as file:
                names = set(file.keys())
                layers = range(len(names) // 2)
                keys, values = (tuple(file.get_tensor(f"{kind}.{i}") for i in layers) for kind in ("key", "value"))
                return cls(keys, values, int(file.metadata()["next_position"]))
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise UserError(f"{path} does not hold a context's keys and values ({error}).") from error


class _Growing(DynamicLayer):  # type: ignore[misc]
    """One layer's cache during a prefill, which may continue an earlier text.

    Transformers' own class starts with two empty tensors, whose copy to the device waits for the GPU in each layer.
    """

    def __init__(self, keys: Tensor | None = None, values: Tensor | None = None) -> None:
        super().__init__()
        if keys is not None and values is not None:
            self._hold(keys, values)

    def _hold(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Append new positions and return all."""
        if self.is_initialized:
            key_states = torch.cat([self.keys, key_states], dim=2)
            value_states = torch.cat([self.values, value_states], dim=2)
        self._hold(key_states, value_states)
        return key_states, value_states


class _Lent(_Growing):
    """One layer's cache of a context that every prompt of a batch sees and none extends: new positions are not kept."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Return the context followed by the new positions, for every prompt."""
        batch = key_states.shape[0]
        keys, values = (t.expand(batch, -1, -1, -1) for t in (self.keys, self.values))
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)


def read(
    model: PreTrainedModel, ids: Sequence[int], device: torch.device | str, after: Context | None = None
) -> Context:
    """Prefill a text, alone or `after` another, under the active taps; returns the keys and values of all positions."""
    if not len(ids):
        return after or Context((), (), 0)
    cache = growing(after)
    start = 0 if after is None else after.next_position
    given = {} if after is None else positions_after(model, after, (1, len(ids)), device)
    with torch.no_grad():
        tokens = to_device([list(ids)], device)
        model.base_model(input_ids=tokens, **cache_given(model.base_model, cache), **given)
    return kept(cache, start + len(ids))


def growing(after: Context | None = None) -> Cache:
    """A transformers cache for the prefill of a text, alone or `after` another."""
    # The same class for all layers: unlike a model's own, it also keeps what a sliding window would drop.
    if after is None or not len(after):
        return Cache(layer_class_to_replicate=_Growing)
    return Cache(layers=[_Growing(k, v) for k, v in zip(after.keys, after.values, strict=True)])


def kept(cache: Cache, next_position: int) -> Context:
    """The context in such a cache after the prefill."""
    return Context(
        tuple(layer.keys for layer in cache.layers), tuple(layer.values for layer in cache.layers), next_position
    )


def cache_given(module: nn.Module, cache: Cache | None) -> dict[str, Any]:
    """The keyword arguments that pass a cache to a model; transformers 5.24 renamed one."""
    name = "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"
    return {name: cache, "use_cache": True}


def positions_after(
    model: PreTrainedModel, context: Context, shape: tuple[int, int], device: torch.device | str
) -> dict[str, Tensor]:
    """The position arguments for tokens after a context; empty unless some positions of the context were dropped.

    Then UserError for a model that accepts no position ids, or with a sliding window shorter than the text: the window
    counts the positions that are present.
    """
    if context.next_position == len(context):
        return {}
    longest, window = max(context.next_position, len(context)) + shape[1], shortest_window(model)
    if window is not None and longest > window:
        raise UserError(
            f"{model.config.model_type!r} has layers that see {window} tokens; without some positions they see other "
            f"tokens than in the whole prompt of {longest}. Use fewer or shorter demonstrations."
        )
    if counts_positions(model):
        raise _no_positions(model)
    return positions_given(model, (torch.arange(shape[1], device=device) + context.next_position).expand(shape))


def shortest_window(model: PreTrainedModel) -> int | None:
    """The size in tokens of the shortest sliding window; None without such layers."""
    config = decoder_config(model)
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)
    if kinds and not {"sliding_attention", "chunked_attention", "local"} & set(kinds):
        return None  # if layers differ, the configuration's window applies to none
    names = ("sliding_window", "attention_chunk_size", "window_size")
    return next((size for name in names if (size := getattr(config, name, None))), None)


def positions_given(model: PreTrainedModel, positions: Int[Tensor, "batch position"]) -> dict[str, Tensor]:
    """The keyword arguments that give the model the positions of its tokens. UserError if it accepts none.

    Empty if positions affect only the mask.
    """
    if "position_ids" in inspect.signature(model.forward).parameters:
        return {"position_ids": positions + _first_position(model)}
    if counts_positions(model):
        return {}
    raise _no_positions(model)


def _first_position(model: PreTrainedModel) -> int:
    """A model's first position id: in RoBERTa's family, the one after the padding index."""
    embeddings: Any = getattr(model.base_model, "embeddings", None)
    if not hasattr(embeddings, "create_position_ids_from_input_ids"):
        return 0
    return int(embeddings.padding_idx) + 1


def counts_positions(model: PreTrainedModel) -> bool:
    """Whether distances between the present positions are added to the scores (ALiBi)."""
    said = getattr(model.config, "alibi", None)
    return (
        any(name.startswith("build_") and "alibi" in name for name in dir(model.base_model)) if said is None else said
    )


def _no_positions(model: PreTrainedModel) -> UserError:
    return UserError(
        f"model type {model.config.model_type!r} accepts no position ids, so a token must directly follow those before it."
    )
