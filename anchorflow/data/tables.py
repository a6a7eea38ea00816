"""Read rows: JSON lines, JSON, CSV, TSV (plain or gzipped), Parquet, and datasets of the library `datasets`.

Values of a CSV stay text: "NA" is not missing, and 007 keeps its zeros.
"""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TextIO, cast

from anchorflow.errors import UserError, first_line


class Row(NamedTuple):
    """A row of a table: its index from 0, its place for error messages, and its values by column."""

    number: int
    where: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of a file or of a split. `names` are the label names of columns that encode them as numbers."""

    place: str
    rows: list[Row]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """All columns, in order of first appearance."""
        return list(dict.fromkeys(column for row in self.rows for column in row.values))


def suffix(path: Path) -> str:
    """The ending of a file name that selects a reader; empty if there is none."""
    return next((known for known in READERS if path.name.lower().endswith(known)), "")


def read_table(path: Path) -> Table:
    """The rows of a file. UserError, with the line, if it cannot be read."""
    ending = suffix(path)
    if not ending:
        raise UserError(f"{path} is not a file of examples; allowed: {', '.join(READERS)}.")
    try:
        return READERS[ending](path)
    except (csv.Error, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise UserError(f"{path}: {first_line(error)}.") from error


def from_disk(folder: Path) -> dict[str, Table]:
    """The splits that `datasets.save_to_disk` wrote, by name; a split without a name is called `train`."""
    import datasets

    try:
        found = datasets.load_from_disk(str(folder), keep_in_memory=True)
    except Exception as error:  # damaged files show themselves in many ways
        raise UserError(f"{folder} cannot be read ({first_line(error)}).") from error
    splits = found if isinstance(found, dict) else {"train": found}
    return {name: of_split(f"{folder}, split {name}", split) for name, split in splits.items()}


def of_split(place: str, split: Any) -> Table:
    """The rows of a split of the library `datasets`."""
    names = {column: tuple(kind.names) for column, kind in split.features.items() if hasattr(kind, "names")}
    return Table(place, [Row(i, f"{place}, row {i + 1}", values) for i, values in enumerate(split)], names)


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. ValueError for a duplicate key, of which a JSON reader would silently keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return found


def _bytes(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


def _opened(path: Path) -> TextIO:
    """The file as text: UTF-8, with or without a BOM, line breaks unchanged."""
    return TextIOWrapper(_bytes(path), encoding="utf-8-sig", newline="")


def _undecodable(path: Path) -> str:
    """The line of a file's first byte that is not UTF-8. Streams decode in blocks, so their own errors do not have it."""
    with _bytes(path) as content:
        for number, line in enumerate(content, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return f", line {number} (byte {error.object[error.start]:#x} at position {error.start})"
    return ""


def _json_lines(path: Path) -> Table:
    rows: list[Row] = []
    with _bytes(path) as content:
        for number, line in enumerate(content, start=1):  # as bytes: a text may contain Unicode line breaks
            where = f"{path}, line {number}"
            if line.strip():
                encoding = "utf-8-sig" if number == 1 else "utf-8"
                rows.append(Row(len(rows), where, _object(line, encoding, where)))
    return Table(str(path), rows)


def _object(line: bytes, encoding: str, where: str) -> Mapping[str, Any]:
    try:
        found = json.loads(line.decode(encoding), object_pairs_hook=without_doubles)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where}: not JSON in UTF-8 ({error}).") from error
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error
    return _mapping(found, where)


def _mapping(found: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise UserError(f"{where}: the row is {found!r:.60}; allowed: an object with text and label.")
    return found


def _json(path: Path) -> Table:
    """A list of objects; a .json file may also contain JSON lines."""
    with _opened(path) as stream:
        try:
            text = stream.read()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not JSON in UTF-8 ({error}).") from error
    if text.lstrip()[:1] != "[":
        return _json_lines(path)
    try:
        found = json.loads(text, object_pairs_hook=without_doubles)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}).") from error
    wheres = [f"{path}, row {i + 1}" for i in range(len(found))]
    rows = zip(wheres, found, strict=True)
    return Table(str(path), [Row(i, where, _mapping(row, where)) for i, (where, row) in enumerate(rows)])


def _separated(delimiter: str) -> Callable[[Path], Table]:
    def read(path: Path) -> Table:
        csv.field_size_limit(2**31 - 1)
        rows: list[Row] = []
        with _opened(path) as stream:
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            try:
                header = next(reader, [])
                if twice := [column for column in header if header.count(column) > 1]:
                    raise UserError(f"{path}, line 1: the column {twice[0]!r} is given twice.")
                for values in reader:
                    where = f"{path}, line {reader.line_num}"
                    if not values:
                        continue
                    if len(values) != len(header):
                        raise UserError(
                            f"{where}: {len(values)} values for the {len(header)} columns {', '.join(header)}; a value that "
                            f"contains {delimiter!r} needs quotes. Found: {values!r:.120}."
                        )
                    rows.append(Row(len(rows), where, dict(zip(header, values, strict=True))))
            except UnicodeDecodeError as error:
                raise UserError(f"{path}{_undecodable(path)}: not text in UTF-8.") from error
            except csv.Error as error:
                raise UserError(
                    f"{path}, line {reader.line_num}: {error}; double the quotes inside a value."
                ) from error
        return Table(str(path), rows)

    return read


def _parquet(path: Path) -> Table:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as cache:  # the default cache would keep a copy of every file
            split = datasets.Dataset.from_parquet(str(path), cache_dir=cache, keep_in_memory=True)
            return of_split(str(path), split)
    except Exception as error:  # damaged files show themselves in many ways
        raise UserError(f"{path}: not Parquet ({first_line(error.__cause__ or error)}).") from error
    finally:
        if shown:
            datasets.enable_progress_bars()


READERS: Mapping[str, Callable[[Path], Table]] = {
    ".jsonl": _json_lines,
    ".jsonl.gz": _json_lines,
    ".json": _json,
    ".json.gz": _json,
    ".csv": _separated(","),
    ".csv.gz": _separated(","),
    ".tsv": _separated("\t"),
    ".tsv.gz": _separated("\t"),
    ".parquet": _parquet,
}
"""The reader for each file ending."""
