"""A few records with the prompts they were made from: what a person looks at to see what a model was asked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from anchorflow.prompts import Prompt, Repetition
from anchorflow.results import Record

MOST = 50
LONGEST = 2000


@dataclass(frozen=True)
class Sample:
    """A table: names of columns, and rows of that many cells (JSON's types)."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def draw_sample(
    units: Sequence[Any], records: Sequence[Record], labels: Sequence[str], decode: Callable[[Sequence[int]], str]
) -> Sample:
    """At most MOST of the units (prompts or repetitions) that have a record, evenly spaced; a row for every variant.

    `labels` names the classes, `decode` makes text of token ids. Of a repetition, the last example is what is predicted,
    and its regimes are the variants. A prompt longer than LONGEST characters is cut in the middle, and says so.
    """
    key = "repetition" if units and isinstance(units[0], Repetition) else "query"
    found = {record[key]: record for record in records}
    kept = [unit for unit in units if unit.number in found]
    chosen = [kept[i * len(kept) // MOST] for i in range(MOST)] if len(kept) > MOST else kept
    rows = []
    for unit in chosen:
        for variant, label, probs, text in _variants(unit, found[unit.number], decode):
            best = probs.index(max(probs))
            rows.append([unit.number, variant, labels[label], labels[best], best == label, *probs, cut(text)])
    head = [key, "regime" if key == "repetition" else "variant", "label", "prediction", "correct"]
    return Sample([*head, *(f"p({label})" for label in labels), "prompt"], rows)


def cut(text: str) -> str:
    """The text, or its beginning and end with the number of characters left out between them."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters left out ...] {text[-half:]}"


def _variants(
    unit: Prompt | Repetition, record: Record, decode: Callable[[Sequence[int]], str]
) -> Iterator[tuple[str, int, list[float], str]]:
    """Of each variant or regime: its name, the true class, the probabilities of the classes, and the prompt's text."""
    if isinstance(unit, Prompt):
        for name, variant in record["variants"].items():
            yield name, unit.label, variant["probs"], unit.text
    else:
        for name, regime in record["regimes"].items():
            probs = [exp(value) for value in regime["log_probabilities"][-1]]
            yield name, unit.labels[-1], probs, decode(unit.series[name].ids)
