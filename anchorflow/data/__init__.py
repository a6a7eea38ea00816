"""Data: a task's labelled examples, their source, and the template that writes them in a prompt."""

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
