"""Find separators and line breaks that the tokenizer does not merge with the text of an example."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from anchorflow.data import Example, Template
from anchorflow.errors import typed
from anchorflow.prompts.builder import PromptBuilder

BREAKS = (" \n", "\n\n", " \n\n", " | ")
"""Alternatives to a line break."""
BEHIND_TEXT = re.compile(r"(\{text(?:_pair)?\})\n")


def keeping_apart(builder: PromptBuilder, demonstrations: Sequence[Example], query: Example) -> list[str]:
    """The settings, as one types them, with which these demonstrations have no `merged` token; possibly none."""
    return [
        typed(setting, value)
        for setting, value, other in _others(builder)
        if not any(found.merged for found in other.build(demonstrations, query).demonstrations)
    ]


def _others(builder: PromptBuilder) -> Iterator[tuple[str, str, PromptBuilder]]:
    """Other line breaks after the texts, and other separators: the setting, its value, and a builder with it."""
    template, separator = builder.template.source, builder.separator
    for way in BREAKS:
        other = BEHIND_TEXT.sub(lambda found, way=way: found[1] + way, template)  # type: ignore[misc]
        for setting, value, parts in (
            ("dataset.template", other, (Template(other), separator)),
            ("dataset.separator", way, (builder.template, way)),
        ):
            if value not in (template, separator):
                yield (
                    setting,
                    value,
                    PromptBuilder(builder.tokenizer, parts[0], builder.label_words, parts[1], builder.limit),
                )
