"""anchorflow: where label words act as anchors, and what in-context labels teach.

The public names (see `anchorflow.api`) are imported when they are first asked for: importing the package loads no torch.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anchorflow.api import *  # noqa: F403

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is None:  # a module is imported by its own name
        from anchorflow import api

        if name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from anchorflow import api

    return sorted({*globals(), *api.__all__})
