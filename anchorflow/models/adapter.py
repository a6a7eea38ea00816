"""A PEFT adapter (such as LoRA), in a directory or on the hub: load its base model and merge the adapter into the weights."""

from __future__ import annotations

import functools
import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchorflow import hub
from anchorflow.errors import UserError, first_line
from anchorflow.models import weights_cache

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = (CONFIG, WEIGHTS, "config.json", "*token*", "vocab*", "merges*", "*.jinja")
"""What is downloaded of an adapter; config.json tells that the repository has a whole model."""


@dataclass(frozen=True)
class Adapter:
    """An adapter in a directory: `base` is the base model's hub id or path, `revision` its commit on the hub."""

    folder: Path
    base: str
    revision: str | None

    @property
    def tokenizer(self) -> Path | None:
        """The directory, if it has a tokenizer of its own."""
        return self.folder if (self.folder / "tokenizer_config.json").is_file() else None

    def content(self) -> str:
        """The hash of its configuration, weights and tokenizer."""
        return weights_cache.files_hash(self.folder)

    def merged(self, name: str, model: Any) -> Any:
        """The model with the adapter merged into its weights. UserError if it belongs to another model or cannot be merged."""
        if importlib.util.find_spec("peft") is None:
            raise UserError(f"model {name} is an adapter, which needs peft; run: pip install 'anchorflow[peft]'.")
        from peft import PeftModel, get_peft_model_state_dict
        from safetensors import safe_open

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # libraries warn each other
                # Peft initialises missing weights at random and only warns.
                warnings.filterwarnings("error", message=".*adapter keys", category=UserWarning)
                adapted = PeftModel.from_pretrained(model, str(self.folder))
                with safe_open(self.folder / WEIGHTS, "pt") as file:
                    unused = set(file.keys()) - set(get_peft_model_state_dict(adapted, save_embedding_layers=True))
                if unused:
                    raise ValueError(f"{len(unused)} of its weights fit no part of this model: {min(unused)}, ...")
                return adapted.merge_and_unload(safe_merge=True)
        except MemoryError:
            raise
        except Exception as error:  # each kind of adapter fails in its own way
            raise UserError(
                f"model {name}: the adapter in {self.folder} cannot be merged into {self.base} ({first_line(error)}); allowed: "
                "adapters of this base model that change weights, such as LoRA."
            ) from error


@functools.cache
def on_hub(repository: str, revision: str | None) -> Path | None:
    """The directory of an adapter that is downloaded, or in the hub's cache; None for a repository without one, or that
    cannot be had (which is said when the model is loaded).
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    cached = not hub.reachable()
    try:
        config = Path(hf_hub_download(repository, CONFIG, revision=revision, local_files_only=cached))
        commit = config.parent.name
        found = snapshot_download(repository, revision=commit, allow_patterns=list(FILES), local_files_only=cached)
    except (HfHubHTTPError, HFValidationError, OSError):
        return None
    return Path(found)  # with config.json too, it is refused as a directory with both is


def adapter_in(place: Path | str) -> Adapter | None:
    """The adapter in a directory; None if it has a whole model. UserError if the adapter is damaged or incomplete."""
    if not isinstance(place, Path) or not (place / CONFIG).is_file() or (place / "config.json").is_file():
        return None
    try:
        found = json.loads((place / CONFIG).read_text(encoding="utf-8"))
        base, revision = found["base_model_name_or_path"], found.get("revision")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{place / CONFIG} is damaged ({type(error).__name__}: {error}).") from error
    if not base:
        raise UserError(
            f"{place / CONFIG} names no base model; set base_model_name_or_path to a hub id or a directory."
        )
    if not (place / WEIGHTS).is_file():
        raise UserError(f"{place} has a {CONFIG}, but no {WEIGHTS}; copy the whole directory again.")
    return Adapter(place, base, revision)
