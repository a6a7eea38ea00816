"""What W&B wrote into a run's directory: a fragment for each attempt at the run."""

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
    """What a fragment says of its run.

    `rows` of its history; `code` it ended with, None where it was killed or still runs; `missing` are files of its tables and
    artifacts, which W&B looks for where they once were; `curves` is the hash of its curves.
    """

    rows: int
    code: int | None
    missing: tuple[str, ...] = ()
    curves: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self.code is not None


@dataclass(frozen=True)
class Fragment:
    """One attempt. `log` is the file with all that happened."""

    log: Path

    @property
    def identity(self) -> str:
        """The id of the run."""
        return self.log.stem.removeprefix("run-")

    @property
    def uploaded(self) -> bool:
        """W&B leaves a mark beside what it has uploaded."""
        return self.log.with_name(f"{self.log.name}.synced").exists()

    def read(self) -> Attempt:
        """What it says, as far as it can be read: a killed one may be cut off anywhere, or empty."""
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
    """Those of a run's directory, oldest first (their names begin with the time): recorded offline, or online."""
    pattern = "run-*" if online else "offline-run-*"
    return [Fragment(log) for log in sorted((folder / "wandb").glob(f"{pattern}/run-*.wandb"))]


def wandb_command(*arguments: str) -> list[str]:
    """W&B's command line, of the installation that runs this."""
    return [sys.executable, "-m", "wandb", *arguments]


def without(names: Sequence[str], **more: str) -> dict[str, str]:
    """The environment for such a command."""
    return {**{key: value for key, value in os.environ.items() if key not in names}, **more}


def _key(item: Any) -> str:
    return item.key or ".".join(item.nested_key)


def _events(log: Path) -> Iterator[Any]:
    """W&B's messages, up to the first that is damaged. (Its own reader, `wandb leet inspect`, takes a second for each file.)"""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record

    for message in _messages(log.read_bytes()):
        try:
            yield Record.FromString(message)
        except DecodeError:
            return


def _messages(content: bytes) -> Iterator[bytes]:
    """The messages in a log of LevelDB's format, behind W&B's header: pieces, none of which crosses the border of a block."""
    if len(content) < HEADER.size or HEADER.unpack_from(content)[0] != b":W&B":
        return
    at, message = HEADER.size, b""
    while at + PIECE.size <= len(content):
        if BLOCK - at % BLOCK < PIECE.size:  # no room for another piece: the rest is filling
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
