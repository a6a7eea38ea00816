"""Label regimes by their properties."""

from collections import Counter
from random import Random
from typing import Any

import pytest

from anchorflow.prompts import labels
from anchorflow.prompts.labels import Regime, parse

WORDS = {2: (" no", " yes"), 3: (" no", " maybe", " yes"), 4: (" a", " b", " c", " d")}


def truth(classes: int, n: int = 40) -> list[int]:
    return Random(classes).choices(range(classes), k=n)


def shown(setting: Any, classes: int, key: str = "", n: int = 40) -> list[int]:
    """The classes that a regime shows."""
    (regime,) = parse([setting])
    words = regime.words(WORDS[classes])
    uniform = [1 / classes] * classes
    return [words.index(word) for word in regime.show(truth(classes, n), WORDS[classes], uniform, Random(key))]


@pytest.mark.parametrize("classes", WORDS)
def test_as_many_flips_as_classes_are_the_identity(classes: int) -> None:
    uniform, found = [1 / classes] * classes, truth(classes)
    for flips in range(1, classes + 1):
        found = labels.flipped(found, uniform, Random())
        assert (found == truth(classes)) == (flips == classes)
        assert all(a != b for a, b in zip(found, truth(classes), strict=True)) == (flips < classes)


@pytest.mark.parametrize("classes", WORDS)
def test_limits_of_one_regime_are_another(classes: int) -> None:
    default, flipped = shown("default", classes), shown("flipped", classes)
    assert default == truth(classes)
    assert shown({"noise": 0}, classes) == shown({"noise": 0.0}, classes) == default
    assert shown({"default_after": 40}, classes) == flipped
    assert shown({"flip_after": 40}, classes) == default
    assert shown({"alternating": 20}, classes) == shown({"flip_after": 20}, classes) == default[:20] + flipped[20:]
    assert shown({"default_after": 7}, classes) == flipped[:7] + default[7:]
    if classes == 2:
        assert shown({"noise": 1}, classes) == flipped
    one = shown({"alternating": 1}, classes)
    assert (one[::2], one[1::2]) == (default[::2], flipped[1::2])
    three = shown({"alternating": 3}, classes)
    assert three[:9] == default[:3] + flipped[3:6] + default[6:9]


def test_random_keeps_the_train_split_s_distribution_and_forgets_the_label() -> None:
    frequencies = [0.7, 0.2, 0.1]
    found = labels.random([0] * 20_000, frequencies, Random(1))
    counted = Counter(found)
    assert [counted[c] / 20_000 for c in range(3)] == pytest.approx(frequencies, abs=0.02)


@pytest.mark.parametrize("p", [0.25, 0.5, 1.0])
def test_noise_replaces_that_share_by_any_other_class_alike(p: float) -> None:
    found = labels.noise(p)([1] * 20_000, [0.8, 0.1, 0.1], Random(1))
    counted = Counter(found)
    assert [counted[c] / 20_000 for c in range(3)] == pytest.approx([p / 2, 1 - p, p / 2], abs=0.02)


def test_a_part_of_the_labels_may_be_random() -> None:
    found = Counter(labels.partly_random(0.5)([1] * 20_000, [0.8, 0.1, 0.1], Random(1)))
    assert [found[c] / 20_000 for c in range(3)] == pytest.approx([0.4, 0.55, 0.05], abs=0.02)
    assert shown({"random": 0}, 3) == truth(3)
    until = shown({"random_until": 10}, 3, "key")
    assert until[:10] == shown("random", 3, "key")[:10] != truth(3)[:10]
    assert until[10:] == truth(3)[10:]


def test_shuffled_labels_are_those_of_the_examples_before() -> None:
    assert shown("shuffled", 3)[1:] == truth(3)[:-1]


@pytest.mark.parametrize(
    "setting",
    [
        *("random", {"noise": 0.5}, "flipped", {"alternating": 3}, {"flip_after": 5}),
        *({"random": 0.5}, {"random_until": 20}, "shuffled"),
    ],
)
def test_what_is_shown_does_not_depend_on_what_comes_after(setting: Any) -> None:
    long, short = shown(setting, 3, "key", 40), shown(setting, 3, "key", 13)
    assert long[:13] == short
    if setting in ("random", {"noise": 0.5}, {"random": 0.5}):
        assert long != shown(setting, 3, "another key", 40)


def test_replaced_words_are_written_and_predicted_as_the_task_s_own_are() -> None:
    regime = Regime("replaced", ("A", "B"))
    assert regime.words((" no", " yes")) == (" A", " B")
    assert regime.show([0, 1, 1], (" no", " yes"), [0.5, 0.5], Random()) == [" A", " B", " B"]
    assert regime.words(("no", "yes")) == ("A", "B")
    with pytest.raises(ValueError, match="replaced_A_B has 2 words, the task 3 classes"):
        regime.words(WORDS[3])


def test_a_constant_is_written_and_the_task_s_words_are_predicted() -> None:
    (regime,) = parse([{"constant": "A"}])
    assert regime.show([0, 1, 1], (" no", " yes"), [0.5, 0.5], Random()) == [" A"] * 3
    assert regime.words((" no", " yes")) == (" no", " yes")


def test_names_are_those_of_the_contract() -> None:
    settings = [
        *("default", "random", "flipped", {"noise": 0.25}, {"noise": 1.0}, {"noise": 0}, {"replaced": ["A", "B"]}),
        *({"flip_after": 20}, {"default_after": 20}, {"alternating": 1}, {"constant": "A"}),
        *({"random": 0.5}, {"random_until": 20}, "shuffled", "predicted"),
    ]
    assert [regime.name for regime in parse(settings)] == [
        *("default", "random", "flipped", "noise_0.25", "noise_1", "noise_0", "replaced_A_B", "flip_after_20"),
        *("default_after_20", "alternating_1", "constant_A", "random_0.5", "random_until_20", "shuffled", "predicted"),
    ]


def test_where_true_and_flipped_labels_are_as_many() -> None:
    assert [n for n in range(20) if Regime("flip_after", 4).balanced(n)] == [8]
    assert [n for n in range(20) if Regime("default_after", 4).balanced(n)] == [8]
    assert [n for n in range(20) if Regime("alternating", 3).balanced(n)] == [6, 12, 18]
    assert not any(Regime("flipped").balanced(n) for n in range(20))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ([], r"regimes is empty; allowed: some of default, random, flipped, \{noise: ...\}"),
        (["fliped"], r"regimes has 'fliped'; allowed: default, random"),
        ([{"noise": 0.1, "flip_after": 2}], r"regimes has \{'noise': 0.1, 'flip_after': 2\}; allowed"),
        ([{"noise": 1.5}], "noise is 1.5; allowed: a probability from 0 to 1"),
        ([{"noise": "much"}], "noise is 'much'"),
        (["noise"], "noise is None; allowed: a probability"),
        ([{"random": 2}], "random is 2; allowed: the name alone, or a probability from 0 to 1"),
        ([{"random_until": 0}], "random_until is 0; allowed: a number of examples from 1"),
        ([{"flipped": 3}], "flipped is 3; allowed: the name alone"),
        ([{"flip_after": -1}], "flip_after is -1; allowed: a number of examples from 1"),
        ([{"default_after": 1.5}], "default_after is 1.5"),
        ([{"alternating": 0}], "alternating is 0; allowed: a number of examples from 1"),
        ([{"replaced": ["A"]}], r"replaced is \['A'\]; allowed: a list of words, one for each class, all different"),
        ([{"replaced": ["A", " A"]}], "all different"),
        ([{"replaced": [True, False]}], "allowed: a list of words"),
        ([{"replaced": "AB"}], "replaced is 'AB'"),
        ([{"constant": " "}], "constant is ' '; allowed: a word"),
        (["default", "default"], "regimes has default twice"),
        ([{"noise": 1}, {"noise": 1.0}], "regimes has noise_1 twice"),
    ],
)
def test_what_is_no_regime_is_refused_with_what_is_allowed(settings: list[Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(settings)
