"""Adam with one example per step, with the gradients of several steps computed in one pass.

A pass over one example is bound by reading all weights, not by arithmetic, so more examples in a pass cost little. But each
step starts where the previous one ended. Therefore the starting points are guessed, all gradients are computed there in one
pass, and the resulting steps give better guesses, until these no longer change. The first guess is always right, so every
pass completes at least one step; steps are small, so it usually completes many. This is Picard iteration (as in Shih et
al. 2023, arXiv 2305.16317); the path is that of single steps.
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
"""Maps examples, with parameters for each [step, ...], to the losses [step] and their gradients [step, ...]."""

MOST = 32
"""The most steps per pass: more gain little, since each further starting point is a worse guess."""


def adam(
    start: Tensor, examples: Sequence[E], gradients: Gradients[E], lr: float, tolerance: float, most: int = MOST
) -> Iterator[tuple[float, Tensor]]:
    """The loss at each example before its step, and the parameters after it (Kingma and Ba 2015, betas 0.9 and 0.999).

    Args:
        start: the parameters before the first step.
        examples: one per step, in this order.
        lr: the learning rate.
        tolerance: a guessed starting point counts as right if no parameter differs by more than this.
        most: the most steps per pass.
    """
    state = _State(start, torch.zeros_like(start), torch.zeros_like(start))
    guesses = [start]
    pace = float(most)
    done = 0
    while done < len(examples):
        # If guesses are bad, make few: a pass of one step costs a third of a pass of many.
        count = min(len(examples) - done, most, round(4 * pace))
        while len(guesses) < count:  # extrapolate the last step
            guesses.append(2 * guesses[-1] - guesses[-2] if len(guesses) > 1 else guesses[-1])
        found, slopes = gradients(examples[done : done + count], torch.stack(guesses[:count]))
        states = list(accumulate(slopes, lambda before, slope: before.after(slope, lr), initial=state))
        begin = torch.stack([each.at for each in states[:count]])
        distances = (begin - torch.stack(guesses[:count])).abs().flatten(1).amax(dim=1)
        losses, apart = torch.stack([found.to(distances), distances]).tolist()  # the only wait for the GPU in a pass
        right = next((i for i in range(1, count) if not apart[i] <= tolerance), count)
        yield from zip(losses[:right], (each.at for each in states[1 : right + 1]), strict=True)
        state, guesses = states[right], [each.at for each in states[right:]]
        pace += (right - pace) / 8
        done += right


@dataclass(frozen=True)
class _State:
    """The state of Adam: parameters, and the running means of gradients and squared gradients.

    Torch's optimizer updates in place; here, steps are tentative, and some are discarded.
    """

    at: Tensor
    mean: Tensor
    square: Tensor
    steps: int = 0

    def after(self, slope: Tensor, lr: float) -> _State:
        """The state after one more step."""
        steps = self.steps + 1
        mean = 0.9 * self.mean + 0.1 * slope
        square = 0.999 * self.square + 0.001 * slope**2
        length = (square / (1 - 0.999**steps)).sqrt() + 1e-8
        return _State(self.at - lr / (1 - 0.9**steps) * mean / length, mean, square, steps)
