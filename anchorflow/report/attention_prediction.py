"""How well attention to the label words tells the prediction (Label Words are Anchors, fig. 5)."""

import numpy as np
from matplotlib.figure import Figure

from anchorflow.report.drawing import (
    BLUE,
    FAINT,
    ORANGE,
    beside,
    canvas,
    count_from_one,
    footnotes,
    known,
    line,
    say_if_undefined,
)
from anchorflow.results import Result


def areas(result: Result, title: str) -> Figure:
    """AUCROC of every layer, and below it the share R of all layers up to it."""
    figure, (above, below) = canvas(title, height=4.6, rows=2, sharex=True)
    auc, share = result.curves["AUCROC"], result.curves["R"]
    beside(above, 0.5, "chance")
    line(above, auc, color=BLUE)
    low = np.nanmin([0.45, *known(auc.values)])
    above.set(ylabel=r"$\mathrm{AUCROC}_l$", ylim=(max(-0.02, low - 0.05), 1.02))
    below.axhline(0, **FAINT)  # without a name: where R runs far, it would be written over that of 1
    beside(below, 1, "all")
    line(below, share, color=ORANGE)
    below.set_ylabel("$R_l$\n(share of layers 1 to $l$)")
    count_from_one(below, share)
    for axes, curve in ((above, auc), (below, share)):
        say_if_undefined(axes, curve)
    footnotes(figure, result.notes)
    return figure
