"""The experiment whose settings are fixed and whose work is still to be written.

It composes and is checked like the others, so that sweeps can be laid out; a run says that it cannot go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class LabelRelationships:
    """Curves over the number of examples under label regimes (In-Context Learning Learns Label Relationships)."""

    name: ClassVar[str] = "label_relationships"
    regimes: tuple[str | dict[str, Any], ...] = ("default", "random", "flipped")
    n_demonstrations: int | None = None
    repetitions: int = 100
    instruction: Literal["none", "classify", "invert", "ignore"] = "none"
    calibrate: bool = False

    def __post_init__(self) -> None:
        if self.repetitions < 1:
            raise ValueError(f"repetitions is {self.repetitions}; allowed: 1 or more")
        if self.n_demonstrations is not None and self.n_demonstrations < 1:
            raise ValueError(f"n_demonstrations is {self.n_demonstrations}; allowed: 1 or more, or null")
