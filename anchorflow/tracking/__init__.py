"""Weights & Biases: one run per job, made for comparing. Nothing outside this package knows it.

A tracker's trouble is one line in the log; it never costs a result.
"""

from anchorflow.tracking.base import Content, Names, Recorder, Tracker, recording
from anchorflow.tracking.samples import Sample, draw_sample
from anchorflow.tracking.tracker import Tracking

__all__ = ["Content", "Names", "Recorder", "Sample", "Tracker", "Tracking", "draw_sample", "recording"]
