"""How many padded tokens a batch takes: as many as were asked for or as fit the device, and half where they did not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from anchorflow.experiments import Experiment
    from anchorflow.models import LanguageModel

log = logging.getLogger(__name__)
Budget = int | Literal["auto"]
ON_CPU = 1024
"""More tokens at a time are no faster there."""
MOST = 2**16
"""More tokens at a time are no faster on any GPU."""
SHARE = 0.6
"""Of the memory that is free; the rest is for what a simulation does not see."""


def nominal(budget: Budget) -> int:
    """The budget before a device is known: the same on every machine."""
    return ON_CPU if budget == "auto" else budget


def choose(budget: Budget, lm: LanguageModel, experiment: Experiment) -> int:
    """`auto` decided: on a GPU from the memory that is free and what the model takes for a token."""
    import torch

    from anchorflow.runs.memory import BESIDES, demand, gigabytes

    if budget != "auto":
        return budget
    if lm.device.type != "cuda":
        return nominal(budget)
    takes = None if lm.source is None else demand(lm.source, experiment, str(lm.dtype).removeprefix("torch."))
    if takes is None:
        return nominal(budget)
    devices = {t.device for t in lm.model.parameters() if t.device.type == "cuda"}
    free = min(torch.cuda.mem_get_info(device)[0] for device in devices)
    fit = int(SHARE * (free - BESIDES) / takes.token)
    chosen = min(MOST, 2 ** max(fit, 1).bit_length() // 2)
    log.info("batch_tokens: %d (%s GB are free)", chosen, gigabytes(free))
    return chosen


def out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine had no more memory to give."""
    return isinstance(error, (MemoryError, RuntimeError)) and (
        type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in str(error)
    )


def halved(budget: int) -> int:
    """The next budget to try, said in the log, with the memory of the last one given back."""
    import gc

    import torch

    log.warning("out of memory with batch_tokens=%d; trying %d", budget, budget // 2)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return budget // 2
