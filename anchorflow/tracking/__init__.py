"""Weights & Biases: one run per job, made for comparing. Nothing outside this package knows it.

A tracker's trouble is one line in the log; it never costs a result.
"""

from anchorflow.tracking.content import Content, Names
from anchorflow.tracking.tracker import Tracker, Tracking

__all__ = ["Content", "Names", "Tracker", "Tracking"]
