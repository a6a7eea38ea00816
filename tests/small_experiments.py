"""Each experiment of this package on a few queries: what is tried on every device."""

from anchorflow.experiments import (
    AttentionPrediction,
    Classification,
    Compression,
    Diagnosis,
    Experiment,
    Isolation,
    LabelRelationships,
    Reweighting,
    Saliency,
)

EXPERIMENTS: list[Experiment] = [
    Classification(n_queries=6),
    AttentionPrediction(n_queries=6),
    Compression(n_queries=6, random_sets=2),
    Diagnosis(n_queries=6),
    Isolation(n_queries=6, first_or_last_k=(1,)),
    LabelRelationships(repetitions=3, n_demonstrations=4, regimes=("default", "flipped", "random"), calibrate=True),
    Reweighting(n_queries=6, epochs=2, train_per_class=1),
    Saliency(n_queries=6, keep_examples=2),
]
