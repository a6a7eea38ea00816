"""The Hugging Face hub: check once, within seconds, whether it can be reached; silence its libraries."""

import functools
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT_S = 4.0


@functools.cache
def reachable() -> bool:
    """True if the hub answers. Otherwise its libraries are switched to offline mode and use only their cache.

    Call this before importing them: without a network they retry every file, with long timeouts.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        request = urllib.request.Request(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), method="HEAD")
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return True  # an HTTP error is an answer too
    except (OSError, ValueError):
        os.environ["HF_HUB_OFFLINE"] = "1"
        for module in ("huggingface_hub.constants", "datasets.config"):
            if module in sys.modules:
                sys.modules[module].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        return False
    return True


@contextmanager
def quiet_library() -> Iterator[None]:
    """Silence transformers' progress bars and remarks within the block."""
    from transformers.utils import logging as library

    level = library.get_verbosity()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        library.enable_progress_bar()
