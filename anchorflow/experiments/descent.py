"""Adam, one example a step, with the gradients of several steps taken at once.

For one example a pass through a model is not bound by arithmetic but by reading all weights, and more examples in a
pass cost little. Steps follow each other, though: each begins where the last one ended. So their beginnings are guessed,
all gradients are taken there in one pass, and the steps along them give better guesses, until they stay as they are.
The first guess is always right, so that every pass finishes a step; since steps are small it usually finishes many. This
is Picard's iteration (as in Shih et al. 2023, arXiv 2305.16317); the path is that of the steps one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

E = TypeVar("E")
Gradients = Callable[[Sequence[E], Tensor], tuple[Tensor, Tensor]]
"""Takes examples and for each of them parameters [step, ...], and gives the losses [step] and their gradients [step, ...]."""

MOST = 32
"""So many steps at once: more gain little, since each further beginning is a worse guess."""


def adam(
    start: Tensor, examples: Sequence[E], gradients: Gradients[E], lr: float, tolerance: float, most: int = MOST
) -> Iterator[tuple[float, Tensor]]:
    """The loss at each example before its step, and the parameters after it (Kingma and Ba 2015, betas 0.9 and 0.999).

    Args:
        start: the parameters before the first step.
        examples: one for every step, in this order.
        lr: length of a step.
        tolerance: a guess of a step's beginning is right if no parameter is farther off than that.
        most: so many steps at once.
    """
    state = _State(start, torch.zeros_like(start), torch.zeros_like(start))
    guesses = [start]
    pace = float(most)
    done = 0
    while done < len(examples):
        # Where guesses are bad, few are made: a pass of one step alone is a third of one of many.
        count = min(len(examples) - done, most, round(4 * pace))
        while len(guesses) < count:  # on as it went last
            guesses.append(2 * guesses[-1] - guesses[-2] if len(guesses) > 1 else guesses[-1])
        found, slopes = gradients(examples[done : done + count], torch.stack(guesses[:count]))
        states = list(accumulate(slopes, lambda before, slope: before.after(slope, lr), initial=state))
        begin = torch.stack([each.at for each in states[:count]])
        distances = (begin - torch.stack(guesses[:count])).abs().flatten(1).amax(dim=1)
        losses, apart = torch.stack([found.to(distances), distances]).tolist()  # the one wait for a GPU in a pass
        right = next((i for i in range(1, count) if not apart[i] <= tolerance), count)
        yield from zip(losses[:right], (each.at for each in states[1 : right + 1]), strict=True)
        state, guesses = states[right], [each.at for each in states[right:]]
        pace += (right - pace) / 8
        done += right


@dataclass(frozen=True)
class _State:
    """Where Adam is, with the running means of gradients and of their squares.

    Torch's own goes on in place; here steps are taken on trial, and some of them back.
    """

    at: Tensor
    mean: Tensor
    square: Tensor
    steps: int = 0

    def after(self, slope: Tensor, lr: float) -> _State:
        """One step further."""
        steps = self.steps + 1
        mean = 0.9 * self.mean + 0.1 * slope
        square = 0.999 * self.square + 0.001 * slope**2
        length = (square / (1 - 0.999**steps)).sqrt() + 1e-8
        return _State(self.at - lr / (1 - 0.9**steps) * mean / length, mean, square, steps)
