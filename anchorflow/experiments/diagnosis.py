"""Are classes confused if the keys of their anchors are close? (Label Words are Anchors, sec. 3.3, fig. 6)"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import variants
from anchorflow.experiments.few_shot import FewShot, Queries
from anchorflow.prompts import Prompt
from anchorflow.results import Curve, Record, Result, Table, metrics, statistics
from anchorflow.settings import configurable

if TYPE_CHECKING:
    from anchorflow.models import LanguageModel, Shape


@configurable
class Diagnosis(FewShot):
    """The confusion of each pair of classes, and its prediction from the distance between their anchors' keys."""

    name: ClassVar[str] = "diagnosis"
    needs: ClassVar[tuple[str, ...]] = ("causal", "taps")
    layer: int | None = None
    """The layer (from 1) whose matrices are shown; null means two thirds of the depth."""
    components: int = 10
    """M, the number of principal directions of the query vectors."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer is not None and self.layer < 1:
            raise ValueError(f"layer is {self.layer}; allowed: 1 (the first) to the model's depth, or null")
        if self.components < 1:
            raise ValueError(f"components is {self.components}; allowed: 1 or more")

    def check(self, task: Task, shape: Shape) -> None:
        """Raise UserError for a missing layer, rows with their own demonstrations, or queries of a single class."""
        super().check(task, shape)
        self.refuse_own_demonstrations(task, "compares the anchors of")
        if self.layer is not None and self.layer > shape.layers:
            raise UserError(
                f"experiment.layer is {self.layer}; {shape.name} has {shape.layers} layers, allowed: 1 to {shape.layers}."
            )
        if self.layer is not None and self.layer - 1 not in shape.attending:
            allowed = ", ".join(str(layer + 1) for layer in shape.attending)
            raise UserError(f"experiment.layer is {self.layer}, which has no attention map; allowed: {allowed}.")
        found = sorted({task.labels[example.label] for example in task.test})
        if len(found) < 2:
            raise UserError(
                f"experiment=diagnosis compares classes; it needs two, but all test examples of {task.name} are {found[0]!r}."
            )

    def map(
        self, lm: LanguageModel, work: Queries, batches: Iterable[Sequence[Prompt]], folder: Path, batch_tokens: int
    ) -> Iterator[list[Record]]:
        """Records with q's query vector in every layer (float32, base64) and its products with each class's anchor key."""
        import torch

        from anchorflow.attention import Vectors, tapped
        from anchorflow.scoring import after_demonstrations, next_word_logits, only, scores

        for prompts, batch, context in after_demonstrations(lm, batches):
            vectors = Vectors(batch.anchors, batch.targets)
            with torch.no_grad(), tapped(lm.model, vectors, only=only(lm, batch)):
                found = scores(next_word_logits(lm, batch, context), batch)
            queries, products = (t.numpy() for t in vectors.read())
            yield [
                {
                    **p.head,
                    **variants.of_layers(lm.shape),
                    "variants": {"full": s},
                    "query_vectors": [_packed(layer[i]) for layer in queries],
                    "anchor_products": _by_class(p, products[:, i]).tolist(),
                }
                for i, (p, s) in enumerate(zip(prompts, found, strict=True))
            ]

    def reduce(self, records: Sequence[Record], labels: Sequence[str]) -> Result:
        """Spearman's correlation of both matrices at `layer` and at every layer, the matrices, and the most confused pairs.

        At `layer` also its p from permuted classes and a 95 % bootstrap interval over queries: `spearman_p`, `_low`, `_high`.
        """
        probs, truth = variants.probs(records), variants.truth(records)
        accuracy = metrics.accuracy(truth, probs)
        confusion = metrics.pairwise_auc(truth, probs)
        products = np.array([record["anchor_products"] for record in records])  # query, layer, class
        n_layers = products.shape[1]

        def vectors(layer: int) -> np.ndarray:
            return np.array([_unpacked(record["query_vectors"][layer]) for record in records], dtype=float)

        predicted = [
            predicted_confusion(vectors(layer), products[:, layer], self.components) for layer in range(n_layers)
        ]
        pairs = list(combinations(range(len(labels)), 2))
        rows, columns = np.array(pairs).T
        correlations = [metrics.rank_correlation(confusion[rows, columns], p[rows, columns]) for p in predicted]
        layers = variants.layers(records, n_layers)
        chosen = (round(2 / 3 * n_layers) or 1) - 1 if self.layer is None else layers.index(self.layer)
        overlaps = _overlaps(vectors(chosen))

        def resampled(draws: np.ndarray) -> np.ndarray:
            again = np.array([_distances(overlaps, products[:, chosen], self.components, counts) for counts in draws])
            measured = metrics.resampled_pairwise_auc(truth, probs, draws)
            return metrics.rank_correlations(measured[:, rows, columns], again[:, rows, columns])

        low = high = math.nan
        if not np.isnan(correlations[chosen]):
            low, high = statistics.bootstrap_interval(len(records), resampled)

        def most_confused(by: np.ndarray) -> Table:
            in_order = sorted(pairs, key=lambda pair: (np.nan_to_num(by[pair], nan=2.0), pair))
            return Table(
                [f"{labels[i]} / {labels[j]}" for i, j in in_order],
                ["confusion", "predicted_confusion"],
                [[confusion[pair], predicted[chosen][pair]] for pair in in_order],
            )

        notes = variants.layer_notes(records)
        if np.isnan(correlations[chosen]):
            notes.append(
                "spearman is undefined: it needs three pairs of classes with queries, and distances that differ"
            )
        missing = [label for c, label in enumerate(labels) if c not in truth]
        if missing:
            notes.append(f"no query of these classes was drawn: {', '.join(missing)}")
        return Result(
            metrics={
                "accuracy": accuracy,
                "spearman": correlations[chosen],
                "spearman_p": statistics.permuted_classes_p(confusion, predicted[chosen]),
                "spearman_low": low,
                "spearman_high": high,
                "layer": layers[chosen],
            },
            stderr={"accuracy": statistics.proportion_stderr(accuracy, len(records))},
            curves={"spearman_by_layer": Curve("layer", layers, correlations)},
            tables={
                "confusion": Table(labels, labels, confusion.tolist()),
                "predicted_confusion": Table(labels, labels, predicted[chosen].tolist()),
                "most_confused": most_confused(by=confusion),
                "most_confused_predicted": most_confused(by=predicted[chosen]),
            },
            notes=notes,
        )


def predicted_confusion(queries: np.ndarray, products: np.ndarray, components: int) -> np.ndarray:
    """‖k̂_i − k̂_j‖ divided by its maximum, diagonal 1 [class, class].

    With the centred queries X = U Σ Vᵀ, the key projected on the principal directions and scaled by the singular
    values is k̂ = Σ Vᵀ k = Uᵀ X k. It needs only the products of the queries with the key [query, class], not the key.
    """
    return _distances(_overlaps(queries), products, components, np.ones(len(queries), dtype=int))


def _overlaps(queries: np.ndarray) -> np.ndarray:
    """The products between queries [query, query]."""
    centred = queries - queries.mean(axis=0)
    found: np.ndarray = centred @ centred.T
    return found


def _distances(overlaps: np.ndarray, products: np.ndarray, components: int, counts: np.ndarray) -> np.ndarray:
    """`predicted_confusion` from the products between queries: U and Σ² are the eigenvectors and eigenvalues of X Xᵀ.

    A query that occurs n times (`counts`) has n equal rows in X, which is equivalent to one row times √n.
    """
    from scipy.linalg import eigh

    drawn = np.flatnonzero(counts)
    weights = counts[drawn] / counts.sum()
    overlaps, products, scale = overlaps[np.ix_(drawn, drawn)], products[drawn], np.sqrt(counts[drawn])
    middle = overlaps @ weights
    centred = overlaps - middle - middle[:, None] + weights @ middle
    n = len(drawn)
    squares, left = eigh(scale[:, None] * centred * scale, subset_by_index=(max(0, n - components), n - 1))
    kept = left[:, squares > squares[-1] * 1e-12] if squares[-1] > 0 else left[:, :0]
    keys = kept.T @ (scale[:, None] * (products - weights @ products))  # direction, class
    distance = np.linalg.norm(keys[:, :, None] - keys[:, None, :], axis=0)
    with np.errstate(invalid="ignore"):
        found: np.ndarray = distance / np.nanmax(distance)
    np.fill_diagonal(found, 1.0)
    return found


def _by_class(prompt: Prompt, products: np.ndarray) -> np.ndarray:
    """[layer, class] from [layer, anchor]: the mean over a class's demonstrations."""
    shown = np.array([demonstration.label for demonstration in prompt.demonstrations])
    return np.stack([products[:, shown == c].mean(axis=1) for c in range(len(prompt.label_tokens))], axis=1)


def _packed(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")
