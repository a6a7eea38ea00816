"""anchorflow: where label words act as anchors, and what in-context labels teach.

The public names (see `anchorflow.api`) are imported on first use: importing the package does not load torch.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anchorflow.api import *  # noqa: F403

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is None:  # not a submodule
        from anchorflow import api

        if name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from anchorflow import api

    return sorted({*globals(), *api.__all__})
