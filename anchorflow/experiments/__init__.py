"""The experiments: each maps prompts to records and reduces records to a Result.

The classes are nodes of the configuration; importing them does not load torch.
"""

from anchorflow.experiments.attention_prediction import AttentionPrediction
from anchorflow.experiments.base import QUERY, REPETITION, Experiment, Unit, UnitKind, Work
from anchorflow.experiments.classification import Classification
from anchorflow.experiments.compression import Compression
from anchorflow.experiments.diagnosis import Diagnosis
from anchorflow.experiments.few_shot import FewShot, Queries
from anchorflow.experiments.isolation import Isolation
from anchorflow.experiments.label_relationships import LabelRelationships
from anchorflow.experiments.reweighting import Reweighting
from anchorflow.experiments.saliency import Saliency

__all__ = [
    "QUERY",
    "REPETITION",
    "AttentionPrediction",
    "Classification",
    "Compression",
    "Diagnosis",
    "Experiment",
    "FewShot",
    "Isolation",
    "LabelRelationships",
    "Queries",
    "Reweighting",
    "Saliency",
    "Unit",
    "UnitKind",
    "Work",
]
