"""Divide the packs of a sweep into arrays that the cluster accepts, within a total limit of packs running at once."""

from __future__ import annotations

import math
from typing import NamedTuple


class Array(NamedTuple):
    """The packs [start, stop), at most `at_once` running; the array starts after the array number `after` has ended."""

    start: int
    stop: int
    at_once: int
    after: int | None = None


def divide(packs: int, largest: int, at_once: int) -> list[Array]:
    """Arrays of similar size, none larger than `largest`, that share `at_once`.

    SLURM limits each array separately, so each gets a share of the total. With more arrays than shares, some wait for
    others.
    """
    arrays = math.ceil(packs / largest)
    bounds = [packs * number // arrays for number in range(arrays + 1)]
    lines = min(arrays, at_once)
    shares = [at_once // lines + (number < at_once % lines) for number in range(lines)]
    return [
        Array(bounds[number], bounds[number + 1], shares[number % lines], number - lines if number >= lines else None)
        for number in range(arrays)
    ]
