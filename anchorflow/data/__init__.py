"""Data: a task's labelled examples, where they come from, and how they are written in a prompt."""

from anchorflow.data.dataset import Dataset, Source
from anchorflow.data.hosted import Hosted
from anchorflow.data.novel import Novel
from anchorflow.data.sources import Hub, Package
from anchorflow.data.task import Example, Provenance, Task, texts
from anchorflow.data.templates import Template

__all__ = [
    "Dataset",
    "Example",
    "Hosted",
    "Hub",
    "Novel",
    "Package",
    "Provenance",
    "Source",
    "Task",
    "Template",
    "texts",
]
