"""Turn the rows of a table into examples; an invalid row is refused with its place."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anchorflow.data.tables import Row, Table
from anchorflow.data.task import Example
from anchorflow.errors import UserError, typed

log = logging.getLogger(__name__)


class WrongLabel(ValueError):
    """A label that is no class."""


@dataclass(frozen=True)
class Reading:
    """How rows become examples: the column of each field, and the allowed labels.

    `names` are the names of the classes in order. `refuse` lists the problems that are errors (see `Dataset.refuse`).
    """

    columns: Mapping[str, str]
    names: tuple[str, ...]
    refuse: Collection[str]

    def examples(self, table: Table) -> list[Example]:
        """The examples of a table. UserError, with the place, for an invalid row."""
        coded = table.names.get(self.columns["label"], ())
        found, empty, nul = [], [], []
        for row in table.rows:
            try:
                if (lacking := self._lacking(row.values)) is not None:
                    empty.append((row, lacking))
                    continue
                found.append(self._example(row.number, row.values, coded))
            except ValueError as error:
                hint = self._naming(table) if isinstance(error, WrongLabel) else ""
                raise UserError(
                    f"{row.where}: {error}. Found: {json.dumps(row.values, default=str)[:100]} Expected: {self._shown()}{hint}"
                ) from error
            if "\0" in found[-1].text + (found[-1].text_pair or ""):
                nul.append(row)
        if empty:
            row, field = empty[0]
            value = row.values.get(self.columns[field])
            what = f"{field} is {value!r:.60}; allowed: a text that is not empty."
            self._judge("missing", row, what, f"Of {len(table.rows)} rows {len(empty)} have none", "are left out")
        if nul:
            what = "a text contains the character NUL; it may be damaged, or not encoded in UTF-8."
            self._judge("nul", nul[0], what, f"Of {len(table.rows)} rows {len(nul)} hold one", "are taken")
        return found

    def _judge(self, kind: str, row: Row, what: str, count: str, else_: str) -> None:
        if kind in self.refuse:
            others = [other for other in self.refuse if other != kind]
            raise UserError(f"{row.where}: {what} {count}; they {else_} with {typed('dataset.refuse', others)}.")
        log.warning("%s: %s %s; they %s", row.where, what, count, else_)

    def _naming(self, table: Table) -> str:
        """How to name the table's labels, if there are as many as classes."""
        there = labels_in(table, self.columns["label"])
        if len(there) != len(self.names):
            return ""
        return f" If its labels {', '.join(there)} are the classes in this order, write {typed('dataset.label_names', there)}."

    def _shown(self) -> str:
        label: Any = self.names[0] if self.names else 0
        values = {"text": "Some words.", "text_pair": "More words.", "label": label}
        return json.dumps({column: values[field] for field, column in self.columns.items()}, ensure_ascii=False)

    def _lacking(self, values: Mapping[str, Any]) -> str | None:
        """The first field without text, or None."""
        for field in ("text", "text_pair"):
            if field in self.columns:
                value = values.get(self.columns[field])
                if value is None or (isinstance(value, str) and not value.strip()):
                    return field
        return None

    def _example(self, number: int, values: Mapping[str, Any], coded: Sequence[str]) -> Example:
        if not isinstance(values, Mapping) or self._lacking(values) is not None:
            raise ValueError(f"a demonstration is an object with text and label, not {values!r:.60}")
        label = self._label(values.get(self.columns["label"]), coded)
        own = values.get("demonstrations")
        if own is not None and (not isinstance(own, list) or not own):
            raise ValueError(f"demonstrations is {own!r:.60}; allowed: a list of rows that is not empty")
        shown = None if own is None else tuple(self._example(i, each, ()) for i, each in enumerate(own))
        pair = self._text(values, "text_pair") if "text_pair" in self.columns else None
        return Example(number, self._text(values, "text"), label, pair, shown)

    def _text(self, values: Mapping[str, Any], field: str) -> str:
        value = values[self.columns[field]]
        if not isinstance(value, str):
            raise ValueError(f"{field} is {value!r:.60}; allowed: a text that is not empty")
        value.encode()  # an unpaired surrogate raises UnicodeEncodeError, which is a ValueError
        return value.strip()

    def _label(self, value: Any, coded: Sequence[str]) -> int:
        """The class of a label: the index of its name, or its number. `coded` are the names that a column's numbers encode."""
        classes = len(self.names)
        if value == -1 and coded:
            raise ValueError("label is -1, which marks withheld labels; use another split")
        if isinstance(value, int) and 0 <= value < len(coded) and set(self.names) <= set(coded):
            value = coded[value]
        if not isinstance(value, bool | float) and str(value) in self.names:
            return self.names.index(str(value))
        if isinstance(value, str) and value.isascii() and value.isdecimal():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < classes:
            raise WrongLabel(f"label is {value!r:.60}; allowed: 0 to {classes - 1}, or {', '.join(self.names)}")
        return value


def labels_in(table: Table, column: str) -> list[str]:
    """The different labels of a column, in order: numbers by size. None of those that `label_names` cannot have."""
    values = [row.values.get(column) for row in table.rows]
    found = {str(value) for value in values if isinstance(value, str | int) and not isinstance(value, bool)}
    return sorted(found, key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label))


def names_in(table: Table, column: str) -> tuple[str, ...]:
    """The class names that a table itself gives: the names of its codes, or its label words in alphabetical order.

    Empty if labels are plain numbers.
    """
    if column in table.names:
        return table.names[column]
    words = {row.values.get(column) for row in table.rows}
    if any(not isinstance(word, str) or not word.strip() or word.strip().isdecimal() for word in words):
        return ()
    return tuple(sorted(map(str, words)))
