"""A sample of records with their prompts, for inspection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from anchorflow.experiments import Unit, UnitKind
from anchorflow.results import Record

MOST = 50
LONGEST = 2000


@dataclass(frozen=True)
class Sample:
    """A table: column names and rows of JSON types."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def draw_sample(
    kind: UnitKind,
    units: Sequence[Unit],
    records: Sequence[Record],
    labels: Sequence[str],
    decode: Callable[[Sequence[int]], str],
) -> Sample:
    """At most MOST of the units (prompts or repetitions) with a record, evenly spaced, with one row per variant.

    `labels` names the classes, `decode` turns token ids into text. For a repetition, the prediction is that of the last
    example, and regimes are the variants. Prompts longer than LONGEST characters are cut in the middle, with a mark.
    """
    found = {record[kind.key]: record for record in records}
    kept = [unit for unit in units if unit.number in found]
    chosen = [kept[i * len(kept) // MOST] for i in range(MOST)] if len(kept) > MOST else kept
    rows = []
    for unit in chosen:
        for variant, label, probs, text in unit.predictions(found[unit.number], decode):
            best = probs.index(max(probs))
            rows.append([unit.number, variant, labels[label], labels[best], best == label, *probs, cut(text)])
    head = [kind.key, kind.variant, "label", "prediction", "correct"]
    return Sample([*head, *(f"p({label})" for label in labels), "prompt"], rows)


def cut(text: str) -> str:
    """The text, or its beginning and end with the number of characters left out between them."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters left out ...] {text[-half:]}"
