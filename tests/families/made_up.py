"""A task of three classes whose prompts are a few dozen tokens: longer than the windows of the tiny models."""

from __future__ import annotations

import random

from anchorflow.data import Example, Provenance, Task, Template
from anchorflow.models import toys

CLASSES = ("Person", "Location", "Number")


def task() -> Task:
    """Texts of two to six words, so that no two prompts of a batch need be of one length."""
    draw = random.Random(0)
    words = [word for word in toys.WORDS.split() if word not in CLASSES]

    def rows(n: int) -> tuple[Example, ...]:
        texts = [" ".join(draw.choices(words, k=draw.randint(2, 6))) for _ in range(n)]
        return tuple(Example(i, text, i % len(CLASSES)) for i, text in enumerate(texts))

    return Task(
        name="made up",
        template=Template("Q: {text}\nA:{label}"),
        separator="\n",
        label_words=tuple(f" {name}" for name in CLASSES),
        train=rows(30),
        test=rows(12),
        provenance=Provenance("made up", None, {}),
    )
