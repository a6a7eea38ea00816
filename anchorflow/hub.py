"""The Hugging Face libraries: whether their hub can be asked, found out once and within seconds; keeping them quiet."""

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
    """True when the hub answers. Where it does not, its libraries are told to use their cache and nothing else.

    Ask before importing them: left to themselves they try every file again and again, with long timeouts.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    try:
        request = urllib.request.Request(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), method="HEAD")
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return True  # an answer, if an unfriendly one
    except (OSError, ValueError):
        os.environ["HF_HUB_OFFLINE"] = "1"
        for module in ("huggingface_hub.constants", "datasets.config"):
            if module in sys.modules:
                sys.modules[module].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        return False
    return True


@contextmanager
def quiet_library() -> Iterator[None]:
    """transformers' progress bars and remarks stay off the screen while a model loads."""
    from transformers.utils import logging as library

    level = library.get_verbosity()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        library.enable_progress_bar()
