import pytest

from anchorflow.data import Template


def test_the_pieces_cover_the_text_and_braces_in_it_are_only_text() -> None:
    values = {"text": "a {label} in {braces}", "label": " Positive"}
    text, pieces = Template("Review: {text}\nSentiment:{label}").render(values)
    assert text == "Review: a {label} in {braces}\nSentiment: Positive"
    assert [(p.field, text[p.start : p.stop]) for p in pieces] == [
        (None, "Review: "),
        ("text", values["text"]),
        (None, "\nSentiment:"),
        ("label", " Positive"),
    ]


def test_a_pair_template_asks_for_a_second_text() -> None:
    assert Template("{text} / {text_pair}: {label}").pair
    assert not Template("{text}: {label}").pair


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("Review: {text}", "must contain {text}"),
        ("{label}: {text}", "must contain {text}"),
        ("{text}:{label}{label}", "must contain {text}"),
        ("{text} {label}", "before {label}"),
        ("{text}{label}", "before {label}"),
        ("{title}: {text}:{label}", "{title}"),
        ("{text:{label}", "cannot be read"),
        ("{text!r} is{label}", "formats text; allowed: the plain field {text}"),
        ("{text:>9} is{label}", "formats text"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(source: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Template(source)
