"""Refuse model files that contradict each other and that transformers would silently ignore or accept."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anchorflow.errors import UserError

INDEX = "model.safetensors.index.json"
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


def refuse_disagreeing(folder: Path, name: str) -> None:
    """Raise UserError for an adapter, which would be ignored, and for shards that do not match the index."""
    if adapters := [file for file in ADAPTERS if (folder / file).is_file()]:
        raise UserError(
            f"model {name}: {folder} has an adapter ({adapters[0]}), which is not applied. Merge it into the weights (peft: "
            "model.merge_and_unload().save_pretrained(DIR)) and use that directory, or remove the adapter's files."
        )
    shards = {file.name for file in folder.glob("model*.safetensors")}
    if not (folder / INDEX).is_file():
        if len(shards) > 1:
            raise UserError(f"model {name}: {folder} has {_some(shards)}, but no {INDEX}; copy it, too.")
        return
    try:
        listed = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"model {name}: {folder / INDEX} is damaged ({type(error).__name__}).") from error
    if missing := listed - shards:
        raise UserError(
            f"model {name}: {folder} lacks {_some(missing)}, which its {INDEX} lists; copy the whole directory again."
        )
    if others := shards - listed:
        raise UserError(
            f"model {name}: {folder} has {_some(others)}, which its {INDEX} does not list: the files are of two models, or of "
            "two versions of one. Remove those that do not belong."
        )


def refuse_further_layers(name: str, unused: Sequence[str], model: Any) -> None:
    """Raise UserError if unused weights belong to layers that the configuration lacks."""
    numbered = re.compile(r"^(.*?\.)(\d+)\.")
    built: dict[str, int] = {}
    for key in model.state_dict():
        if found := numbered.match(key):
            built[found[1]] = max(built.get(found[1], 0), int(found[2]) + 1)
    for key in unused:
        found = numbered.match(key)
        # A checkpoint saved without the LM head has layers.0 instead of model.layers.0.
        layers = [n for prefix, n in built.items() if found and f".{prefix}".endswith(f".{found[1]}")]
        if found and layers and int(found[2]) >= max(layers):
            raise UserError(
                f"model {name}: its weights have a layer {int(found[2]) + 1} ({key}), its config.json {max(layers)} layers; "
                "they are of two models, or config.json was changed."
            )


def refuse_further_tokens(name: str, tokenizer: Any, model: Any) -> None:
    """Raise UserError if the tokenizer produces ids beyond the embedding.

    Special tokens may lie beyond it: checkpoints with such a padding token are common.
    """
    rows = model.get_input_embeddings().num_embeddings
    special = set(tokenizer.all_special_ids)
    beyond = {word: token for word, token in tokenizer.get_vocab().items() if token >= rows and token not in special}
    if beyond:
        word, token = min(beyond.items(), key=lambda item: item[1])
        raise UserError(
            f"model {name}: its tokenizer has {len(beyond)} tokens beyond the {rows} of its embedding ({word!r} is {token}): "
            "it belongs to another model, or the embedding was not resized."
        )


def _some(names: set[str]) -> str:
    first = ", ".join(sorted(names)[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more"
