"""Which figures an experiment has, drawn from its Result alone, and how they are saved."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from anchorflow.report.views import (
    attention_prediction,
    classification,
    compression,
    diagnosis,
    isolation,
    label_relationships,
    reweighting,
    saliency,
)
from anchorflow.results import Result, write_atomically

FIGURES: dict[str, dict[str, Callable[[Result, str], Figure | None]]] = {
    "saliency": {"saliency_shares": saliency.flow_shares, "saliency_means": saliency.flow_means},
    "classification": {"confusion": classification.confusion, "reliability": classification.reliability},
    "isolation": {"isolation": isolation.loyalty},
    "attention_prediction": {"attention_prediction": attention_prediction.areas},
    "reweighting": {"train_loss": reweighting.train_loss, "beta": reweighting.beta},
    "compression": {"compression": compression.loyalty, "compression_cost": compression.cost},
    "diagnosis": {
        "confusion_matrices": diagnosis.confusion_matrices,
        "spearman_by_layer": diagnosis.spearman_by_layer,
    },
    "label_relationships": {
        "label_relationships": label_relationships.curves,
        "changing_labels": label_relationships.both_sides,
    },
}


def draw(experiment: str, result: Result, title: str) -> dict[str, Figure]:
    """The figures of an experiment by file name, without those whose numbers the result does not have."""
    drawn = {name: make(result, title) for name, make in FIGURES.get(experiment, {}).items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def save(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """Each figure as PNG (for the screen) and PDF (for the paper); the PNGs' paths come back."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for kind, content in _rendered(figure).items():
            write_atomically(folder / f"{name}.{kind}", content)
    return [folder / f"{name}.png" for name in figures]


def _rendered(figure: Figure) -> dict[str, bytes]:
    """Arranged and drawn once for the first format, drawn once more for the other: savefig does each four times."""
    png, pdf = BytesIO(), BytesIO()
    figure.set_dpi(160)
    FigureCanvasAgg(figure).print_png(png)  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")
    FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})  # type: ignore[no-untyped-call]
    return {"png": png.getvalue(), "pdf": pdf.getvalue()}
