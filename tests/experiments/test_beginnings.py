"""What series have in common is read once, and every number is that of a series read alone; labels that a model chooses."""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random

import pytest
import torch

from anchorflow.data import Task
from anchorflow.experiments import LabelRelationships, beginnings
from anchorflow.experiments.beginnings import SHORTEST, scores_along
from anchorflow.models import LanguageModel
from anchorflow.models.abilities import Abilities
from anchorflow.prompts import Series
from anchorflow.scoring import label_log_probabilities_along
from tests.experiments.test_label_relationships import builder_of, mapped, worked


@contextmanager
def passes(lm: LanguageModel) -> Iterator[list[tuple[int, ...]]]:
    """The shape of what the model reads in each pass."""
    found: list[tuple[int, ...]] = []
    hook = lm.model.get_input_embeddings().register_forward_hook(lambda _, ids, __: found.append(tuple(ids[0].shape)))
    try:
        yield found
    finally:
        hook.remove()


def made(lm: LanguageModel, lengths: Sequence[int], key: str, targets: Sequence[int], words: Sequence[int]) -> Series:
    """Tokens by lot: as many from each key's first letters (a, ab, abc) as its length says."""
    ids: list[int] = []
    for i, length in enumerate(lengths):
        ids += Random(key[: i + 1]).choices(range(50, len(lm.tokenizer)), k=length)
    return Series(array("i", ids), (*targets, len(ids) - 1), tuple(words))


@pytest.mark.parametrize("budget", [1, 700, 100_000])
def test_what_begins_alike_is_read_once_and_scored_as_if_alone(lm: LanguageModel, budget: int) -> None:
    n = SHORTEST
    families = [
        [
            made(lm, (n, n + 9, 30), "aba", (3, n - 1, n + 4), (7, 8)),
            made(lm, (n, n + 9, 50), "abb", (3, n, 2 * n + 20), (9, 7, 11)),
            made(lm, (n, 40), "ac", (), (8, 7)),
            made(lm, (n, n - 1, 5), "aca", (5,), (8, 7)),  # like the one before for less than it takes
            made(lm, (70,), "d", (5, 6), (7, 8)),
        ],
        [made(lm, (n + 3,), "e", (5, 6), (7, 8)), made(lm, (n + 3, 7), "eb", (5, 6, n + 3), (7, 12))],
        [made(lm, (n + 60,), "f", (5,), (7, 8))] * 2,  # the same
        [made(lm, (n + 9, 5), key, (), (7, 8)) for key in ("ga", "gb")],  # no label in what they have in common
        [],
    ]
    with passes(lm) as read:
        found = scores_along(lm, families, budget)
    for family, scores in zip(families, found, strict=True):
        for series, given in zip(family, scores, strict=True):
            (alone,) = label_log_probabilities_along(lm, [series])
            torch.testing.assert_close(given, alone, atol=1e-5, rtol=0)
    if budget == 1:  # nothing is padded
        once = n + (n + 9) + 30 + 50 + 40 + (n - 1 + 5) + 70 + (n + 3) + 7 + (n + 60) + (n + 9) + 5 + 5
        assert sum(length for _, length in read) == once


@pytest.mark.parametrize("lacking", ["context", "prefix"])
def test_a_model_that_cannot_go_on_from_a_cache_reads_each_series_whole(lm: LanguageModel, lacking: str) -> None:
    family = [made(lm, (SHORTEST + 5, 9), key, (5,), (7, 8)) for key in ("aa", "ab")]
    lm = replace(lm, can=Abilities({lacking: "for some reason"}))
    with passes(lm) as read:
        (found,) = scores_along(lm, [family], 1)
    assert [length for _, length in read] == [SHORTEST + 14] * 2
    for series, scores in zip(family, found, strict=True):
        torch.testing.assert_close(scores, label_log_probabilities_along(lm, [series])[0], atol=1e-12, rtol=0)


def test_nothing_is_padded_where_that_changes_numbers(lm: LanguageModel) -> None:
    family = [made(lm, (40, length), key, (5,), (7, 8)) for length, key in ((9, "aa"), (12, "ab"))]
    with passes(lm) as read:
        scores_along(replace(lm, can=Abilities({"padding": "for some reason"})), [family], 10_000)
    assert sorted(read) == [(1, 49), (1, 52)]


def test_regimes_that_change_side_read_what_came_before_once(lm: LanguageModel, task: Task) -> None:
    """And their records say what a prompt of their own says."""
    regimes = ("default", {"flip_after": 8}, "flipped", {"default_after": 8})
    experiment = LabelRelationships(regimes=regimes, n_demonstrations=12, repetitions=2)
    work = worked(experiment, lm, task)
    with passes(lm) as read:
        found = mapped(experiment, lm, work, batch_tokens=1)
    each = [len(series.ids) for unit in work.units for series in unit.series.values()]
    assert sum(rows * length for rows, length in read) < 0.7 * sum(each)
    for record, unit in zip(found, work.units, strict=True):
        for name, series in unit.series.items():
            (alone,) = label_log_probabilities_along(lm, [series])
            given = torch.tensor(record["regimes"][name]["log_probabilities"], dtype=torch.float64)
            torch.testing.assert_close(given, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("goes_on", [True, False])
def test_labels_that_the_model_chooses_are_its_own_predictions(lm: LanguageModel, task: Task, goes_on: bool) -> None:
    lm = lm if goes_on else replace(lm, can=Abilities({"context": "for some reason"}))
    experiment = LabelRelationships(regimes=("default", "predicted"), n_demonstrations=6, repetitions=2)
    alone = LabelRelationships(regimes=("predicted",), n_demonstrations=6, repetitions=2)
    by_itself = mapped(alone, lm, worked(alone, lm, task))
    work = worked(experiment, lm, task)
    with passes(lm) as read:
        found = mapped(experiment, lm, work)
    for record, other in zip(found, by_itself, strict=True):
        assert record["regimes"]["predicted"] == other["regimes"]["predicted"]
    for record, unit in zip(found, work.units, strict=True):
        scores = record["regimes"]["predicted"]["log_probabilities"]
        words = [task.labels[max(range(3), key=of_example.__getitem__)] for of_example in scores]
        assert record["regimes"]["predicted"]["shown"] == words
        examples = [task.train[row] for row in unit.examples]
        written = builder_of(lm, task).series(examples, [f" {word}" for word in words])
        (expected,) = label_log_probabilities_along(lm, [written])
        torch.testing.assert_close(torch.tensor(scores, dtype=torch.float64), expected, atol=1e-5, rtol=0)
        # No prompt is longer than what the context was checked for, and the last example's is what a tracker shows.
        assert len(written.ids) <= len(unit.series["predicted"].ids) <= unit.length
        shown = {name: text for name, *_, text in unit.predictions(record, lm.tokenizer.decode)}
        assert shown["predicted"] == lm.tokenizer.decode(written.ids)
    together = sum(length for rows, length in read[1:])
    assert (together < 3 * sum(unit.length for unit in work.units)) == goes_on


def test_how_far_texts_are_alike() -> None:
    assert beginnings._alike([1, 2, 3], [1, 2, 4, 5]) == 2
    assert beginnings._alike([1, 2], [1, 2, 4], [1, 2]) == 2
    assert beginnings._alike([], [1]) == 0
