"""A dataset's template: renders an example and records which characters belong to which field."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import NamedTuple

FIELDS = ("text", "text_pair", "label")


class Piece(NamedTuple):
    """A span of rendered text: characters [start, stop) come from `field` (None: from the template itself)."""

    field: str | None
    start: int
    stop: int


@dataclass(frozen=True)
class Template:
    """`Review: {text}\\nSentiment:{label}`: fixed characters around {text}, {text_pair} and one {label}.

    Raises ValueError for a template without {text}, without exactly one {label} after all other fields, with
    unknown fields, or with nothing between the text and its label.
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
            raise ValueError(f"template {self.source!r} must contain {{text}} and, as its last field, one {{label}}")
        if not self._pieces[-1 if self._pieces[-1][1] else -2][0].strip():
            raise ValueError(f"template {self.source!r} needs words or punctuation before {{label}}")

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
        """The fields in order; None for trailing text."""
        return [field for _, field in self._pieces]

    @property
    def pair(self) -> bool:
        """Whether examples need a second text."""
        return "text_pair" in self.fields

    @property
    def before_label(self) -> str:
        """The template's own characters directly before the label."""
        return next(literal for literal, field in self._pieces if field == "label")

    def render(self, values: Mapping[str, str]) -> tuple[str, list[Piece]]:
        """The text with these `values` of the fields, and the pieces that it consists of.

        An empty field also removes the blank before it.
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
