"""Everything that reaches inside a model's attention.

`tapped(model, tap, ...)` puts taps in force for a block. A tap is a callable between a layer and its
attention: it receives an `Attention` and the function that carries it out, and returns the output.
"""

from anchorflow.attention.backend import Attend, Tap, tapped
from anchorflow.attention.core import Attention, attention_weights
from anchorflow.attention.saliency import SaliencyFlow

__all__ = ["Attend", "Attention", "SaliencyFlow", "Tap", "attention_weights", "tapped"]
