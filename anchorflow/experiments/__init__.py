"""The experiments: each maps prompts to records and reduces records to a Result.

The classes are nodes of the configuration, so importing them loads no torch.
"""

from anchorflow.experiments.classification import Classification
from anchorflow.experiments.few_shot import Experiment, FewShot
from anchorflow.experiments.saliency import Saliency

__all__ = ["Classification", "Experiment", "FewShot", "Saliency"]
