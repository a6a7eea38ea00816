"""Figures, tables and pages from results. Views contain everything that this package knows about experiments.

A view consists of `View`, `Panel` and `Place`, and draws with anchorflow.report.drawing; `view.view_of` finds it.
`figures.draw` and `figures.save` make the figures of one run, `collect.collect` reads runs from disk, and
`write.report` and `compare.compare` are the commands of the same names.
"""

from anchorflow.report.view import Panel, Place, View

__all__ = ["Panel", "Place", "View"]
