"""The packs of a sweep as arrays that the cluster takes, which together run no more at once than was promised."""

from __future__ import annotations

import math
from typing import NamedTuple


class Array(NamedTuple):
    """The packs from `start` up to `stop`, `at_once` of them running; not before the array number `after` has ended."""

    start: int
    stop: int
    at_once: int
    after: int | None = None


def divide(packs: int, largest: int, at_once: int) -> list[Array]:
    """Arrays of about the same size, none larger than `largest`, that share `at_once`.

    SLURM limits each array by itself, so each gets its share of the whole; where there are more arrays than shares, one waits
    for another.
    """
    arrays = math.ceil(packs / largest)
    bounds = [packs * number // arrays for number in range(arrays + 1)]
    lines = min(arrays, at_once)
    shares = [at_once // lines + (number < at_once % lines) for number in range(lines)]
    return [
        Array(bounds[number], bounds[number + 1], shares[number % lines], number - lines if number >= lines else None)
        for number in range(arrays)
    ]
