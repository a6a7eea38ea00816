"""The user's cache: hashes of large files, and models converted from .gguf."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from anchorflow import hub
from anchorflow.errors import UserError, first_line
from anchorflow.paths import expanded
from anchorflow.results import write_atomically

log = logging.getLogger(__name__)

MODEL_FILES = (
    *("config.json", "adapter_config.json", "*.safetensors"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model"),
)
"""The files of a model's directory that can change a number."""

LARGE_BYTES = 2**20
"""Files of this size (bytes) or more are hashed once, and again only if their size or modification time changes."""


def folder() -> Path:
    """ANCHORFLOW_CACHE, or anchorflow/ in the user's cache directory."""
    given = os.environ.get("ANCHORFLOW_CACHE")
    return expanded(given) if given else expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "anchorflow"


def files_hash(path: Path) -> str:
    """A hash of the content of a file, or of the configuration, tokenizer and weights in a directory."""
    if path.is_file():
        return _file_hash(path)
    files = sorted({file for pattern in MODEL_FILES for file in path.glob(pattern) if file.is_file()})
    lines = "".join(f"{file.name} {_file_hash(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def from_gguf(file: Path) -> Path:
    """A directory with the file's weights as float32 safetensors, converted once and cached."""
    kept = folder() / "gguf" / f"{file.stem}-{files_hash(file)[:16]}"
    if kept.is_dir():
        return kept
    for needed in ("gguf", "accelerate"):
        if importlib.util.find_spec(needed) is None:
            raise UserError(f"reading {file.name} needs the package {needed}; run: pip install {needed}.")
    log.info("converting %s, once (kept in %s)", file.name, kept)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Written under another name and then renamed: a killed or concurrent process leaves nothing incomplete.
        made = Path(tempfile.mkdtemp(prefix=f".{kept.name}-", dir=kept.parent))
    except OSError as error:
        raise UserError(f"the cache folder {kept.parent} cannot be written ({error}); set ANCHORFLOW_CACHE.") from error
    try:
        _convert(file, made)
        try:
            made.rename(kept)
        except OSError:
            if not kept.is_dir():  # else another process was faster
                raise
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises any of dozens of errors
        raise UserError(f"{file} could not be converted: {first_line(error)}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return kept


def _convert(file: Path, to: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with hub.quiet_library():
        given: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
        AutoTokenizer.from_pretrained(file.parent, **given).save_pretrained(to)
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, **given, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        model.save_pretrained(to)


def _file_hash(file: Path) -> str:
    """SHA-256 of the content. For a large file it is cached by path, with the size and modification time of the file."""
    stat = file.stat()
    if stat.st_size < LARGE_BYTES:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    place, state = os.fsencode(file.resolve()), f"{stat.st_size} {stat.st_mtime_ns}"
    with contextlib.suppress(ValueError):
        then, found = recall("hashes", place).rsplit(maxsplit=1)
        if then == state:
            return found
    if stat.st_size > 2**32:
        log.info("hashing %s, once", file)
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(2**20):
            digest.update(block)
    remember("hashes", place, f"{state} {digest.hexdigest()}\n")
    return digest.hexdigest()


def recall(kind: str, key: bytes) -> str:
    """The text that was remembered under this key; empty if it cannot be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return _note(kind, key).read_text(encoding="utf-8")
    return ""


def remember(kind: str, key: bytes, text: str) -> None:
    """Cache a short text. A cache that cannot be written only costs time."""
    with contextlib.suppress(OSError):
        _note(kind, key).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_note(kind, key), text)


def _note(kind: str, key: bytes) -> Path:
    return folder() / kind / hashlib.sha256(key).hexdigest()[:32]
