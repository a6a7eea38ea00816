"""What a model can be asked, found out by asking it (see `anchorflow.attention.self_check`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PROPERTIES = {
    "causal": "a token changes nothing before it",
    "prefix": "a text begins the same, however long it is",
    "padding": "a prompt reads the same alone and padded",
    "context": "a text can continue from its KV cache",
    "taps": "attention maps can be read and changed",
    "dense": "layers see all positions that the mask lets them see",
    "gradients": "gradients reach attention maps through queries, keys and values alone",
    "cut": "after the last attention one position can be computed alone",
    "last token": "the last token can be read again alone",
    "gaps": "positions can be dropped from a KV cache",
    "halfway": "a pass can start at a middle layer",
}
"""What is checked, and what it means, in this order."""


@dataclass(frozen=True)
class Abilities:
    """The properties of a model: `"padding" in can`.

    `lacking` says of each property that fails by how much, or for which reason. A model that was not checked lacks none.
    """

    lacking: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        if name not in PROPERTIES:
            raise KeyError(name)
        return name not in self.lacking
