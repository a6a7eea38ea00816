"""What an error tells one to type does, when typed, what it says."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorflow.errors import did_you_mean, typed

words = st.text(st.characters(exclude_categories=["Cs", "Cc"])) | st.text("\\\"' a$,]}")


@settings(max_examples=100, deadline=None)
@given(st.recursive(words, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=5))
def test_a_setting_is_what_it_was_behind_the_shell_and_hydra(value: object) -> None:
    (argument,) = shlex.split(typed("dataset.label_words", value))
    assert OverridesParser.create().parse_override(argument).value() == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" a", """'k=" a"'"""),
        ("plain", "k=plain"),
        ("null", """'k="null"'"""),
        ("two\nlines", """'k="two\\nlines"'"""),
        ("it's", """'k="it'\\''s"'"""),
        (["é", "b"], """'k=["é", b]'"""),
        ({"text": "a column", "n": 3}, """'k={text: "a column", n: 3}'"""),
        (5, "k=5"),
    ],
)
def test_quotes_are_written_where_they_are_needed(value: object, expected: str) -> None:
    assert typed("k", value) == expected


def test_the_nearest_name_is_offered() -> None:
    assert did_you_mean("GPT-2", ["gpt2", "tiny"]) == " Did you mean gpt2?"
    assert did_you_mean("nothing", ["gpt2", "tiny"]) == ""
