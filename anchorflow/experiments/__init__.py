"""The experiments: each maps prompts to records and reduces records to a Result.

The classes are nodes of the configuration, so importing them loads no torch.
"""

from anchorflow.experiments.classification import Classification
from anchorflow.experiments.few_shot import Experiment, FewShot
from anchorflow.experiments.planned import (
    AttentionPrediction,
    Compression,
    Diagnosis,
    Isolation,
    LabelRelationships,
    Reweighting,
)
from anchorflow.experiments.saliency import Saliency

__all__ = [
    "AttentionPrediction",
    "Classification",
    "Compression",
    "Diagnosis",
    "Experiment",
    "FewShot",
    "Isolation",
    "LabelRelationships",
    "Reweighting",
    "Saliency",
]
