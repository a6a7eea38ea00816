"""Find the columns of a table that hold the text and the label."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence

from anchorflow.data.tables import Table
from anchorflow.errors import UserError, did_you_mean, typed

log = logging.getLogger(__name__)

NUMBERING = {"", "idx", "id", "index", "demonstrations"}
"""Columns that are neither text nor label: a row's index, and its own demonstrations."""


def find(table: Table, given: Mapping[str, str], pair: bool, known: Collection[str]) -> dict[str, str]:
    """The column of each field: the given one, else the one with the field's name, else the only candidate (logged).

    `known` are the names of the labels. UserError if a column is missing or ambiguous.
    """
    columns = table.columns
    fields = ["text", "label", *(["text_pair"] if pair else [])]
    found = {field: given.get(field, field) for field in fields if field in given or field in columns}
    for field, column in found.items():
        if column not in columns and columns:
            raise UserError(
                f"dataset.columns maps {field} to {column!r}, which {table.place} does not have; it has "
                f"{', '.join(columns)}.{did_you_mean(column, columns)}"
            )
    missing = [field for field in fields if field not in found]
    if not missing or not columns:
        return {field: found.get(field, field) for field in fields}
    spare = [column for column in columns if column not in found.values() and column.lower() not in NUMBERING]
    guessed = _only_choice(table, missing, spare, known)
    if guessed is None:
        example = {field: found.get(field, f"COLUMN{i + 1}") for i, field in enumerate(fields)}
        raise UserError(
            f"{table.place} has no column {' and no '.join(missing)}; it has {', '.join(columns)}. Name the columns: "
            f"{typed('dataset.columns', example)}. Its first row: {dict(table.rows[0].values)!r:.150}"
        )
    said = ", ".join(f"{field} is {column!r}" for field, column in guessed.items())
    log.info("columns: %s in %s, the only candidates", said, table.place)
    return found | guessed


def _only_choice(
    table: Table, missing: Sequence[str], spare: Sequence[str], known: Collection[str]
) -> dict[str, str] | None:
    """One column for each missing field; None if a field has several candidates or none."""
    if len(spare) != len(missing):
        return None
    if len(missing) == 1:
        return {missing[0]: spare[0]}
    coded = [column for column in spare if column in table.names]
    labels = coded or [column for column in spare if _may_be_label(table, column, known)]
    if set(missing) == {"text", "label"} and len(labels) == 1:
        return {"text": next(column for column in spare if column not in labels), "label": labels[0]}
    return None


def _may_be_label(table: Table, column: str, known: Collection[str]) -> bool:
    """Whether all values are class numbers or known names; if the names are unknown, whether there are few and they repeat."""
    values = [str(row.values.get(column)) for row in table.rows]
    if all(value.isdecimal() or value in known for value in values):
        return True
    return not known and len(set(values)) <= len(values) / 2
