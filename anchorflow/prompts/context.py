"""The length limit of prompts: refuse longer ones, or skip and count them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from anchorflow.errors import UserError

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Any)
TooLong = Literal["refuse", "skip"]


@dataclass(frozen=True)
class ContextLimit:
    """The context length in tokens of the model called `model` (None: no limit)."""

    tokens: int | None = None
    model: str = "the model"
    too_long: TooLong = "refuse"

    def __str__(self) -> str:
        return f"the {self.tokens} tokens of {self.model}"

    def none_fits(self, n: int) -> UserError:
        """The error if all `n` prompts are too long."""
        return UserError(f"all {n} prompts are longer than {self}.")

    def fits(self, unit: Any) -> bool:
        """Whether a unit's longest prompt fits the context."""
        return self.tokens is None or unit.length <= self.tokens

    def sort_out(self, units: Sequence[T], one: str, several: str) -> tuple[list[T], list[dict[str, Any]]]:
        """The units that fit, and for each of the others a record with the reason for skipping it.

        Messages call the units `one` and `several`. UserError for a prompt that is too long, if `too_long` is refuse.
        """
        fitting, skipped = [], []
        for unit in units:
            if self.fits(unit):
                fitting.append(unit)
                continue
            if self.too_long == "refuse":
                raise UserError(
                    f"the prompt for {one} {unit.number} has {unit.length} tokens; the context of {self.model} is "
                    f"{self.tokens}. Use fewer demonstrations, or too_long=skip to leave such prompts out and count them."
                )
            skipped.append({**unit.head, "skipped": f"{unit.length} tokens, the context is {self.tokens}"})
        if skipped:
            log.warning("skipping %d of %d %s, longer than the context", len(skipped), len(units), several)
        return fitting, skipped


UNLIMITED = ContextLimit()
