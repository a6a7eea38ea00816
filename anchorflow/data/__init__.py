"""Data: a task's labelled examples, where they come from, and how they are written in a prompt."""

from anchorflow.data.dataset import Dataset, Hub, Package, Source
from anchorflow.data.novel import Novel
from anchorflow.data.task import Example, Provenance, Task
from anchorflow.data.templates import Template

__all__ = ["Dataset", "Example", "Hub", "Novel", "Package", "Provenance", "Source", "Task", "Template"]
