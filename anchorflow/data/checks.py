"""Problems of a task as a whole: duplicate texts, texts with two labels, texts in both splits."""

import logging
from collections.abc import Collection

from anchorflow.data.task import Task, Texts, texts
from anchorflow.errors import UserError, typed

log = logging.getLogger(__name__)


def refuse_problems(task: Task, refuse: Collection[str], where: str) -> None:
    """Raise UserError, with an example, for a problem in `refuse`; one log line counts the others.

    That line leaves out the overlap, which every run reports by itself.
    """
    counted = {
        "duplicates": (task.provenance.duplicates, "repeat the text and label of an earlier row", _twice),
        "conflicts": (task.provenance.conflicts, "texts have more than one label", _conflicting),
        "overlap": (task.provenance.overlap, "test examples have the text of a train example", _overlapping),
    }
    for kind, (count, what, find) in counted.items():
        if count and kind in refuse:
            others = [other for other in refuse if other != kind]
            raise UserError(
                f"{where}: {count} {what}, such as {find(task)[0]!r:.80}. Remove them, or accept them with "
                f"{typed('dataset.refuse', others)}."
            )
    told = [f"{count} {what}" for kind, (count, what, _) in counted.items() if count and kind != "overlap"]
    if told:
        log.info("checked: of %s, %s", task.shown, "; ".join(told))


def _twice(task: Task) -> Texts:
    seen: set[object] = set()
    for split in (task.train, task.test):
        for example in split:
            key = (split is task.test, texts(example), example.label)
            if key in seen:
                return texts(example)
            seen.add(key)
    raise AssertionError("there are duplicates")


def _conflicting(task: Task) -> Texts:
    labels: dict[Texts, int] = {}
    return next(texts(e) for e in (*task.train, *task.test) if labels.setdefault(texts(e), e.label) != e.label)


def _overlapping(task: Task) -> Texts:
    trained = set(map(texts, task.train))
    return next(texts(e) for e in task.test if texts(e) in trained)
