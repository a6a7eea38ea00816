"""The number of padded tokens in a batch: as set, or as many as fit the device, halved when memory runs out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from anchorflow.experiments import Experiment
    from anchorflow.models import LanguageModel

log = logging.getLogger(__name__)
Budget = int | Literal["auto"]
ON_CPU = 1024
"""The budget on a CPU: more tokens per batch are no faster there."""
MOST = 2**16
"""The largest budget on a GPU: more tokens per batch are no faster."""
SHARE = 0.6
"""The share of free memory to use; the rest is for what the simulation does not see."""


def nominal(budget: Budget) -> int:
    """The budget before a device is known: the same on every machine."""
    return ON_CPU if budget == "auto" else budget


def choose(budget: Budget, lm: LanguageModel, experiment: Experiment) -> int:
    """Resolve `auto`: on a GPU from the free memory and the memory that the model needs per token."""
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
    log.info("batch_tokens: %d (%s GB free)", chosen, gigabytes(free))
    return chosen


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device or the machine is out of memory."""
    return isinstance(error, (MemoryError, RuntimeError)) and (
        type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in str(error)
    )


def halved(budget: int) -> int:
    """The next budget to try (logged), after freeing the memory of the last one."""
    import gc

    import torch

    log.warning("out of memory with batch_tokens=%d; trying %d", budget, budget // 2)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return budget // 2
