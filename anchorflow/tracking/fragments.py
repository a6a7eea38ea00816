"""Read W&B's recordings in a run's directory: one fragment per attempt at the run."""

import json
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchorflow.tracking.content import MARK

BLOCK = 32768
HEADER = struct.Struct("<4sHB")
PIECE = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class Attempt:
    """The content of a fragment.

    `rows` is the length of its history; `code` its exit code, None if it was killed or still runs; `missing` are files of
    its tables and artifacts that are no longer at the place where W&B looks for them; `curves` is the hash of its curves.
    """

    rows: int
    code: int | None
    missing: tuple[str, ...] = ()
    curves: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it ended regularly."""
        return self.code is not None


@dataclass(frozen=True)
class Fragment:
    """The recording of one attempt; `log` is its file."""

    log: Path

    @property
    def identity(self) -> str:
        """The id of the W&B run."""
        return self.log.stem.removeprefix("run-")

    @property
    def uploaded(self) -> bool:
        """Whether it was uploaded: W&B leaves a marker file next to it."""
        return self.log.with_name(f"{self.log.name}.synced").exists()

    def read(self) -> Attempt:
        """Its content as far as it can be read: the recording of a killed process may be truncated or empty."""
        rows, code, curves = 0, None, None
        files: list[str] = []
        for event in _events(self.log):
            kind = event.WhichOneof("record_type")
            if kind == "history":
                rows += 1
            elif kind == "exit":
                code = int(event.exit.exit_code)
            elif kind == "artifact":
                files += [file.local_path for file in event.artifact.manifest.contents if file.local_path]
            elif kind == "summary":
                curves = next((json.loads(i.value_json) for i in event.summary.update if _key(i) == MARK), curves)
        return Attempt(rows, code, tuple(file for file in files if not Path(file).exists()), curves)


def fragments(folder: Path, online: bool = False) -> list[Fragment]:
    """The fragments in a run's directory that were recorded offline (or online), oldest first: names begin with the time."""
    pattern = "run-*" if online else "offline-run-*"
    return [Fragment(log) for log in sorted((folder / "wandb").glob(f"{pattern}/run-*.wandb"))]


def wandb_command(*arguments: str) -> list[str]:
    """A command of W&B's command line, from the running installation."""
    return [sys.executable, "-m", "wandb", *arguments]


def without(names: Sequence[str], **more: str) -> dict[str, str]:
    """The environment for such a command, without these variables and with others."""
    return {**{key: value for key, value in os.environ.items() if key not in names}, **more}


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _events(log: Path) -> Iterator[Any]:
    """W&B's messages, up to the first damaged one. (Its own reader, `wandb leet inspect`, needs a second per file.)"""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    for message in _messages(log.read_bytes()):
        try:
            yield Record.FromString(message)
        except DecodeError:
            return


def _messages(content: bytes) -> Iterator[bytes]:
    """The messages in a log in LevelDB format after W&B's header: they consist of pieces that do not cross block boundaries."""
    if len(content) < HEADER.size or HEADER.unpack_from(content)[0] != b":W&B":
        return
    at, message = HEADER.size, b""
    while at + PIECE.size <= len(content):
        if BLOCK - at % BLOCK < PIECE.size:  # no room for another piece: the rest is padding
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = PIECE.unpack_from(content, at)
        piece = content[at + PIECE.size : at + PIECE.size + size]
        at += PIECE.size + size
        if len(piece) < size or not WHOLE <= kind <= LAST:
            return
        message = piece if kind in (WHOLE, FIRST) else message + piece
        if kind in (WHOLE, LAST):
            yield message
