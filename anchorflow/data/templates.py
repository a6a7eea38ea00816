"""A dataset's template: an example becomes text whose characters know what they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import NamedTuple

FIELDS = ("text", "text_pair", "label")


class Piece(NamedTuple):
    """A stretch of rendered text: characters [start, stop) come from `field` (None: the template's own)."""

    field: str | None
    start: int
    stop: int


@dataclass(frozen=True)
class Template:
    """`Review: {text}\\nSentiment:{label}`: fixed characters around {text}, {text_pair} and one {label}.

    Raises ValueError for a template without {text} or with other than one {label}, with unknown
    fields, or where nothing stands between the text and its label.
    """

    source: str

    def __post_init__(self) -> None:
        names = [name for name in self.fields if name]
        for name in names:
            if name not in FIELDS:
                raise ValueError(
                    f"template {self.source!r} has the field {{{name}}}; allowed: {{text}}, {{text_pair}}, {{label}}"
                )
        if "text" not in names or names.count("label") != 1 or names[-1] != "label":
            raise ValueError(f"template {self.source!r} must hold {{text}} and then, once and last, {{label}}")
        if not self._pieces[-1 if self._pieces[-1][1] else -2][0].strip():
            raise ValueError(f"template {self.source!r} needs words or signs in front of {{label}}")

    @property
    def _pieces(self) -> list[tuple[str, str | None]]:
        try:
            parsed = list(Formatter().parse(self.source))
        except ValueError as error:
            raise ValueError(f"template {self.source!r} cannot be read ({error})") from error
        if odd := [field for _, field, form, conversion in parsed if form or conversion]:
            raise ValueError(f"template {self.source!r} formats {odd[0]}; allowed: the plain field {{{odd[0]}}}")
        return [(literal, field) for literal, field, _, _ in parsed]

    @property
    def fields(self) -> list[str | None]:
        """The fields in order; None for a closing literal."""
        return [field for _, field in self._pieces]

    @property
    def pair(self) -> bool:
        """Whether examples need a second text."""
        return "text_pair" in self.fields

    @property
    def before_label(self) -> str:
        """The template's own characters right in front of the label."""
        return next(literal for literal, field in self._pieces if field == "label")

    def render(self, values: Mapping[str, str]) -> tuple[str, list[Piece]]:
        """The text for `values`, which gives every field its words, and the pieces it is made of.

        A field without words takes the blank in front of it along.
        """
        text, pieces = "", []
        for literal, field in self._pieces:
            words = values[field] if field else ""
            before = literal if words or not field else literal.rstrip(" ")
            for name, part in ((None, before), (field, words)):
                if part:
                    pieces.append(Piece(name, len(text), len(text) + len(part)))
                    text += part
        return text, pieces
