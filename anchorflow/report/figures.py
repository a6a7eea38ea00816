"""Which figures an experiment has, drawn from its Result alone, and how they are saved."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from anchorflow.report import (
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

FORMATS: dict[str, dict[str, Any]] = {"png": {"dpi": 160}, "pdf": {"metadata": {"CreationDate": None}}}
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
        figure.draw_without_rendering()  # arranged once, not for each file
        figure.set_layout_engine("none")
        for kind, options in FORMATS.items():
            content = BytesIO()
            figure.savefig(content, format=kind, **options)
            write_atomically(folder / f"{name}.{kind}", content.getvalue())
    return [folder / f"{name}.png" for name in figures]
