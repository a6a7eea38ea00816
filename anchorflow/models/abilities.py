"""The properties of a model that experiments rely on, established by `anchorflow.attention.self_check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PROPERTIES = {
    "causal": "a token changes nothing before it",
    "prefix": "the beginning of a text does not depend on its length",
    "padding": "padding does not change a prompt's logits",
    "context": "a text can continue from its KV cache",
    "taps": "attention maps can be read and changed",
    "dense": "layers see all positions that the mask allows",
    "gradients": "gradients reach attention maps only through queries, keys and values",
    "cut": "after the last attention, a single position can be computed",
    "last token": "the last token can be computed again by itself",
    "gaps": "positions can be dropped from a KV cache",
    "halfway": "a forward pass can start at a middle layer",
}
"""The properties and their meaning, in the order of the checks."""


@dataclass(frozen=True)
class Abilities:
    """The properties of a model: `"padding" in can`.

    `lacking` maps each property that fails to the size of the error or the reason. An unchecked model lacks none.
    """

    lacking: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        if name not in PROPERTIES:
            raise KeyError(name)
        return name not in self.lacking
