"""What people look at: figures, tables and pages made from results. Of experiments it knows what their views say.

For others: a view is made of `View`, `Panel` and `Place`, and drawn with anchorflow.report.drawing; `view.view_of` finds
it. `figures.draw` and `figures.save` are the figures of one run; `collect.collect` reads what lies on disk;
`write.report` and `compare.compare` are the commands of the same names.
"""

from anchorflow.report.view import Panel, Place, View

__all__ = ["Panel", "Place", "View"]
