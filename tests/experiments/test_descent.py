"""Adam with several steps at once takes the path of torch's Adam."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from anchorflow.experiments import descent

EXAMPLES = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def loss_of(rows: Sequence[int], at: Tensor) -> Tensor:
    """Neither convex nor quadratic."""
    return (torch.tanh(at @ EXAMPLES[0]) - torch.sin((at * EXAMPLES[list(rows)]).sum(dim=-1))) ** 2


class Counted:
    """Gradients, and how many examples each call took."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, rows: Sequence[int], at: Tensor) -> tuple[Tensor, Tensor]:
        self.calls.append(len(rows))
        at.requires_grad_()
        losses = loss_of(rows, at)
        return losses.detach(), torch.autograd.grad(losses.sum(), at)[0]


def by_torch(order: Sequence[int], lr: float) -> tuple[list[float], Tensor]:
    at = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([at], lr=lr, betas=(0.9, 0.999))
    losses = []
    for row in order:
        adam.zero_grad()
        loss = loss_of([row], at[None]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        losses.append(loss.item())
    return losses, at.detach()


@pytest.mark.parametrize("most", [1, 2, 7, 32, 1000])
@pytest.mark.parametrize("lr", [0.01, 0.3])
def test_the_path_is_that_of_one_step_after_another(most: int, lr: float) -> None:
    order = [*range(12), *reversed(range(12)), *range(0, 12, 2)] * 2
    start, gradients = torch.zeros(5, dtype=torch.float64), Counted()
    found = list(descent.adam(start, order, gradients, lr, tolerance=1e-12, most=most))
    losses, end = by_torch(order, lr)
    assert [loss for loss, _ in found] == pytest.approx(losses, rel=1e-7, abs=1e-9)
    torch.testing.assert_close(found[-1][1], end, rtol=1e-9, atol=1e-9)
    assert torch.equal(start, torch.zeros_like(start))
    assert max(gradients.calls) == min(most, len(order))
    if most == 1:
        assert gradients.calls == [1] * len(order)
    elif most > 2 and lr < 0.1:
        assert len(gradients.calls) < len(order) / 2


def test_every_pass_finishes_a_step_even_where_no_guess_is_ever_right() -> None:
    gradients = Counted()
    found = list(descent.adam(torch.zeros(5, dtype=torch.float64), [*range(12)] * 4, gradients, 0.1, tolerance=-1))
    losses, _ = by_torch([*range(12)] * 4, 0.1)
    assert [loss for loss, _ in found] == pytest.approx(losses, rel=1e-9)
    assert len(gradients.calls) == 48
    assert gradients.calls[0] == 32
    assert max(gradients.calls[24:]) < 10  # after a while guesses do not reach as far


def test_what_is_no_number_ends_too() -> None:
    def gradients(rows: Sequence[int], at: Tensor) -> tuple[Tensor, Tensor]:
        return at.sum(dim=-1), at * torch.nan

    found = list(descent.adam(torch.zeros(5), range(40), gradients, 0.1, tolerance=1e-3))
    assert len(found) == 40
    assert found[0][0] == 0
    assert all(at.isnan().all() for _, at in found)
