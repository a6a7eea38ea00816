"""Start a forward pass at a middle layer: layers with known output are not run again."""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from anchorflow.attention.reach import decoder_layers, replaced


class Halfway:
    """The hidden states between layers in one pass, for passes over the same tokens that differ only in higher layers."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._layers = decoder_layers(model)
        self._found: dict[int, Any] = {}

    @contextmanager
    def noting(self, starts: Collection[int]) -> Iterator[None]:
        """Within the block, a pass stores the input of the layers (from 0) in `starts`."""
        with ExitStack() as stack:
            for start in starts:
                if start > 0:
                    stack.callback(self._layers[start - 1].register_forward_hook(self._keeper(start)).remove)
            yield

    @contextmanager
    def beginning(self, start: int) -> Iterator[None]:
        """Within the block, the layers below `start` are skipped; the stored input of layer `start` is used."""
        with ExitStack() as stack:
            for layer in list(self._layers)[:start]:
                stack.enter_context(replaced(layer, "forward", lambda *_, **__: self._found[start]))
            yield

    def _keeper(self, start: int) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            self._found[start] = output

        return keep
