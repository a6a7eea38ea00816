"""Weights & Biases: one W&B run per job, designed for comparisons. No other package knows W&B.

A failing tracker is one line in the log; it never loses a result.
"""

from anchorflow.tracking.afterwards import tell_agent
from anchorflow.tracking.base import Content, Progress, Recorder, Tracker, recording
from anchorflow.tracking.names import Names, name_run, safe
from anchorflow.tracking.progress import Followed
from anchorflow.tracking.samples import Sample, draw_sample
from anchorflow.tracking.tracker import Tracking

__all__ = [
    "Content",
    "Followed",
    "Names",
    "Progress",
    "Recorder",
    "Sample",
    "Tracker",
    "Tracking",
    "draw_sample",
    "name_run",
    "recording",
    "safe",
    "tell_agent",
]
