"""Examples out of a file of JSON lines; a row that cannot be one is refused with its line."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anchorflow.data.task import Example
from anchorflow.errors import UserError


def read_rows(path: Path, classes: int | None, names: Sequence[str], pair: bool) -> Iterator[Example]:
    """Examples of a JSON lines file; UserError with file and line for a row that cannot be one."""
    with path.open("rb") as file:
        for row, line in enumerate(file):
            where = f"{path}, line {row + 1}"
            try:
                yield _example(row, json.loads(line), classes, names, pair)
            except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
                raise UserError(f"{where}: not JSON in UTF-8 ({error}).") from error
            except ValueError as error:
                raise UserError(f"{where}: {error}.") from error


def _example(row: int, fields: Any, classes: int | None, names: Sequence[str], pair: bool) -> Example:
    if not isinstance(fields, dict):
        raise ValueError(f"a row is an object with text and label, not {fields!r:.60}")
    for key in ("text", "text_pair")[: 1 + pair]:
        if not isinstance(fields.get(key), str) or not fields[key].strip():
            raise ValueError(f"{key} is {fields.get(key)!r:.60}; it must be a text that is not empty")
        fields[key].encode()  # half a surrogate pair is a UnicodeEncodeError, which is a ValueError
    label = fields.get("label")
    if isinstance(label, str) and label in names:
        label = list(names).index(label)
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < (classes or label + 1):
        allowed = f"0 to {classes - 1}" + (f", or {', '.join(names)}" if names else "") if classes else "0 or more"
        raise ValueError(f"label is {label!r:.60}; allowed: {allowed}")
    own = fields.get("demonstrations")
    if own is not None and (not isinstance(own, list) or not own):
        raise ValueError(f"demonstrations is {own!r:.60}; it must be a list of rows that is not empty")
    demonstrations = None if own is None else tuple(_example(i, d, classes, names, pair) for i, d in enumerate(own))
    return Example(row, fields["text"].strip(), label, fields["text_pair"].strip() if pair else None, demonstrations)
