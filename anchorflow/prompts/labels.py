"""Label regimes of "In-Context Learning Learns Label Relationships": which labels the in-context examples show.

A regime is a value, {kind: argument} in the configuration. It maps labels with a pure function of the true labels, the
class frequencies and a generator; the label of an example does not depend on the examples after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

Change = Callable[[Sequence[int], Sequence[float], Random], list[int]]
"""Maps (true classes, frequency of each class in the train split, generator) to the shown classes."""


def default(labels: Sequence[int], frequencies: Sequence[float], generator: Random) -> list[int]:
    """The true labels."""
    return list(labels)


def random(labels: Sequence[int], frequencies: Sequence[float], generator: Random) -> list[int]:
    """Each label is drawn from the label distribution of the train split, independent of the true one."""
    return generator.choices(range(len(frequencies)), frequencies, k=len(labels))


def partly_random(p: float) -> Change:
    """With probability `p` a label is drawn as in `random`, otherwise it is the true one."""

    def change(labels: Sequence[int], frequencies: Sequence[float], generator: Random) -> list[int]:
        draws = [(generator.random(), random([label], frequencies, generator)[0]) for label in labels]
        return [drawn if u < p else label for label, (u, drawn) in zip(labels, draws, strict=True)]

    return change


def shuffled(labels: Sequence[int], frequencies: Sequence[float], generator: Random) -> list[int]:
    """The true labels of other examples: each example, in random order, shows the label of the one before it.

    The label of the first example is drawn as in `random`.
    """
    return [*random(labels[:1], frequencies, generator), *labels[:-1]]


def flipped(labels: Sequence[int], frequencies: Sequence[float], generator: Random) -> list[int]:
    """(y + 1) mod C: a swap of two classes, a rotation of more."""
    return [(label + 1) % len(frequencies) for label in labels]


def noise(p: float) -> Change:
    """With probability `p` a label is one of the other classes, drawn uniformly."""

    def change(labels: Sequence[int], frequencies: Sequence[float], generator: Random) -> list[int]:
        n = len(frequencies)
        draws = [(generator.random(), generator.randrange(1, n)) for _ in labels]
        return [(label + step) % n if u < p else label for label, (u, step) in zip(labels, draws, strict=True)]

    return change


def switch(before: Change, after: Change, n: int) -> Change:
    """`before` for the first `n` examples, `after` for the others."""

    def change(labels: Sequence[int], frequencies: Sequence[float], generator: Random) -> list[int]:
        return before(labels, frequencies, generator)[:n] + after(labels, frequencies, generator)[n:]

    return change


def alternate(first: Change, second: Change, every: int) -> Change:
    """`every` examples with `first`, as many with `second`, and so on."""

    def change(labels: Sequence[int], frequencies: Sequence[float], generator: Random) -> list[int]:
        sides = [side(labels, frequencies, generator) for side in (first, second)]
        return [sides[i // every % 2][i] for i in range(len(labels))]

    return change


class Kind(NamedTuple):
    """A kind of regime: its allowed arguments (`allowed` describes them), and the change of labels it makes."""

    allowed: str | None
    accepts: Callable[[Any], bool]
    change: Callable[[Any], Change]


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_words(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 1 and all(map(_is_word, value)) and _differ(value)


def _differ(words: Sequence[str]) -> bool:
    return len({word.strip() for word in words}) == len(words)


def _is_count(least: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _nothing(value: Any) -> bool:
    return value is None


KINDS = {
    "default": Kind(None, _nothing, lambda _: default),
    "random": Kind(
        "the name alone, or a probability from 0 to 1",
        lambda value: value is None or _is_share(value),
        lambda p: random if p is None else partly_random(p),
    ),
    "flipped": Kind(None, _nothing, lambda _: flipped),
    "noise": Kind("a probability from 0 to 1", _is_share, noise),
    "replaced": Kind("a list of words, one for each class, all different", _are_words, lambda _: default),
    "flip_after": Kind("a number of examples from 1", _is_count(1), lambda n: switch(default, flipped, n)),
    "default_after": Kind("a number of examples from 1", _is_count(1), lambda n: switch(flipped, default, n)),
    "alternating": Kind("a number of examples from 1", _is_count(1), lambda n: alternate(default, flipped, n)),
    "constant": Kind("a word", _is_word, lambda _: default),
    "random_until": Kind("a number of examples from 1", _is_count(1), lambda n: switch(random, default, n)),
    "shuffled": Kind(None, _nothing, lambda _: shuffled),
    "predicted": Kind(None, _nothing, lambda _: default),
}
TURNING = ("flip_after", "default_after", "alternating")
"""Kinds that switch between true and flipped labels; their argument is the number of examples before the switch."""


@dataclass(frozen=True)
class Regime:
    """A label regime: a `kind` of KINDS with its argument."""

    kind: str
    argument: Any = None

    @property
    def name(self) -> str:
        """The name in the keys of results: noise_0.25, replaced_A_B, flip_after_20."""
        if self.argument is None:
            return self.kind
        parts = self.argument if isinstance(self.argument, tuple) else (self.argument,)
        return "_".join([self.kind, *(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)])

    def flips(self, classes: int) -> bool:
        """Whether every label of the context is the flipped one; with two classes, noise of 1 does that, too."""
        return self.kind == "flipped" or (self.kind == "noise" and self.argument == 1 and classes == 2)

    @property
    def chosen(self) -> bool:
        """Whether the labels are the model's own predictions, unknown before it has read the examples."""
        return self.kind == "predicted"

    @property
    def change(self) -> int:
        """The number of examples before the first change in how labels are made; 0 if there is none."""
        return int(self.argument) if self.kind in (*TURNING, "random_until") else 0

    @property
    def turn(self) -> int:
        """The number of examples before the first switch between true and flipped labels; 0 if there is none."""
        return self.change if self.kind in TURNING else 0

    def balanced(self, n: int) -> bool:
        """Whether the first `n` examples include a switch and show as many true labels as flipped ones."""
        if self.kind == "alternating":
            return n > 0 and n % (2 * self.turn) == 0
        return self.kind in TURNING and n > 0 and n == 2 * self.turn

    def words(self, label_words: Sequence[str]) -> tuple[str, ...]:
        """The label words in force for a task with these `label_words`. ValueError if their numbers differ."""
        if self.kind != "replaced":
            return tuple(label_words)
        if len(self.argument) != len(label_words):
            raise ValueError(f"{self.name} has {len(self.argument)} words, the task {len(label_words)} classes")
        return tuple(_blank(own) + word for own, word in zip(label_words, self.argument, strict=True))

    def show(
        self, labels: Sequence[int], label_words: Sequence[str], frequencies: Sequence[float], generator: Random
    ) -> list[str]:
        """The word shown for each example; not available for a regime with predicted labels."""
        if self.kind == "constant":
            return [_blank(label_words[0]) + self.argument] * len(labels)
        words = self.words(label_words)
        return [words[label] for label in KINDS[self.kind].change(self.argument)(labels, frequencies, generator)]


def _blank(word: str) -> str:
    """The leading blank of a task's label word, which its replacement takes over."""
    return word[: len(word) - len(word.lstrip())]


def parse(settings: Sequence[str | Mapping[str, Any]]) -> tuple[Regime, ...]:
    """The regimes of the configuration's list. ValueError for an unknown kind, a bad argument, or a duplicate."""
    if not settings:
        raise ValueError(f"regimes is empty; allowed: some of {_allowed()}")
    regimes = tuple(_parse(setting) for setting in settings)
    names = [regime.name for regime in regimes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"regimes has {name} twice; allowed: each regime once")
    return regimes


def _parse(setting: str | Mapping[str, Any]) -> Regime:
    given = {setting: None} if isinstance(setting, str) else dict(setting)
    if len(given) != 1 or next(iter(given)) not in KINDS:
        raise ValueError(f"regimes has {setting!r}; allowed: {_allowed()}")
    ((kind, argument),) = given.items()
    allowed, accepts, _ = KINDS[kind]
    if not accepts(argument):
        raise ValueError(f"regimes: {kind} is {argument!r}; allowed: {allowed or 'the name alone'}")
    if isinstance(argument, list | tuple):
        return Regime(kind, tuple(word.strip() for word in argument))
    return Regime(kind, argument.strip() if isinstance(argument, str) else argument)


def _allowed() -> str:
    return ", ".join(kind if known.accepts(None) else f"{{{kind}: ...}}" for kind, known in KINDS.items())
