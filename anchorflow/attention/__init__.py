"""Access to a model's attention.

`tapped(model, tap, ...)` applies taps within a block. A tap is a callable between a layer and its
attention: it receives an `Attention` and the function that computes it, and returns the output.
"""

from anchorflow.attention.backend import Tap, in_force, tapped
from anchorflow.attention.core import Attention, attention_weights
from anchorflow.attention.halfway import Halfway
from anchorflow.attention.isolation import Isolate
from anchorflow.attention.kv_cache import Context, read
from anchorflow.attention.last_token import Seen, reweighted
from anchorflow.attention.reach import Attend
from anchorflow.attention.saliency import SaliencyFlow
from anchorflow.attention.self_check import checked
from anchorflow.attention.target import LabelAttention, target_weights
from anchorflow.attention.vectors import Vectors

__all__ = [
    "Attend",
    "Attention",
    "Context",
    "Halfway",
    "Isolate",
    "LabelAttention",
    "SaliencyFlow",
    "Seen",
    "Tap",
    "Vectors",
    "attention_weights",
    "checked",
    "in_force",
    "read",
    "reweighted",
    "tapped",
    "target_weights",
]
