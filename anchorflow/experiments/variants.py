"""Measures of the variants of records (full, label_first_5, hidden_anchor, ...), as pure functions.

A random control with several draws has the variants NAME, NAME_2, NAME_3, ...: its numbers are averaged over draws for each
query first, then over queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from anchorflow.results import Curve, Record, metrics, statistics

if TYPE_CHECKING:
    from anchorflow.models import Shape


def draw_name(name: str, draw: int) -> str:
    """The name of the variant for a draw (from 0)."""
    return name if draw == 0 else f"{name}_{draw + 1}"


def truth(records: Sequence[Record]) -> np.ndarray:
    """The true labels."""
    return np.array([record["label"] for record in records])


def probs(records: Sequence[Record], variant: str = "full") -> np.ndarray:
    """[query, label]"""
    return metrics.stack_probs([record["variants"][variant] for record in records])


def top(records: Sequence[Record], variant: str) -> np.ndarray:
    """[query, 5]: the most probable next words."""
    return np.array([record["variants"][variant]["top5"] for record in records])


def of_layers(shape: Shape) -> dict[str, list[int]]:
    """The field of a record with its layers (from 1), if not all layers have attention maps."""
    return {} if shape.attention_layers is None else {"layers": [layer + 1 for layer in shape.attention_layers]}


def layers(records: Sequence[Record], count: int) -> list[int]:
    """The model's own numbers of the `count` layers in the records, from 1."""
    return list(records[0].get("layers") or range(1, count + 1))


def layer_notes(records: Sequence[Record]) -> list[str]:
    """A note if curves leave out layers."""
    if "layers" not in records[0]:
        return []
    return [f"a hybrid model: only its {len(records[0]['layers'])} attention layers have attention maps"]


def measure(
    records: Sequence[Record], name: str, draws: int = 1, shared: bool = True
) -> dict[str, tuple[float, float]]:
    """`accuracy`, and `label_loyalty` and `word_loyalty` to `full`, of a variant: each a mean with its standard error.

    If queries share the positions of a draw, the error of several draws combines the errors over queries and over draws; if
    every query has its own positions, the error over queries includes both.
    """
    variants = [draw_name(name, draw) for draw in range(draws)]
    labels, base, words = truth(records), probs(records), top(records, "full")
    per_query = {
        "accuracy": [probs(records, v).argmax(axis=1) == labels for v in variants],
        "label_loyalty": [metrics.label_agreement(probs(records, v), base) for v in variants],
        "word_loyalty": [metrics.word_overlap(top(records, v), words) for v in variants],
    }
    found = {}
    for key, values in per_query.items():
        of_all = np.array(values, dtype=float)  # draw, query
        mean, stderr = statistics.share_and_stderr(of_all.mean(axis=0)[:, None])
        over_draws = statistics.mean_and_stderr(of_all.mean(axis=1)[:, None])[1] if shared and draws > 1 else [0.0]
        found[key] = (float(mean[0]), float(np.hypot(stderr[0], over_draws[0])))
    return found


def curve(x: str, at: Sequence[float], points: Sequence[tuple[float, float]]) -> Curve:
    """A curve of means with standard errors."""
    return Curve(x, at, [mean for mean, _ in points], [stderr for _, stderr in points])
