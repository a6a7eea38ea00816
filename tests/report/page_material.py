"""What the pages of the browser's tests are made of: kept examples, saliency, classification."""

from collections.abc import Sequence

import numpy as np

from anchorflow.experiments.flows import FLOWS, FlowExample
from anchorflow.prompts import Demonstration
from anchorflow.results import Curve, Result, Table

LAYERS = 6
HACK = "window.hacked=1"
"""What no text of a run may do."""
TOKENS = (
    *("Review", " a", " good", " film", "\n", "Sentiment", ":", " Positive", "\n"),
    *("Review", " dull", "\n", "Sentiment", ":", " Negative", "\n"),
    *("Review", " fine", "\n", "Sentiment", ":"),
)
DEMONSTRATIONS = [
    Demonstration(1, 0, 9, 7, (7,), (0, 4, 5, 6, 8)),
    Demonstration(0, 9, 16, 14, (14,), (9, 11, 12, 13, 15)),
]


def example(query: int = 3, tokens: Sequence[str] = TOKENS, layers: int = LAYERS) -> FlowExample:
    """Flows between random tokens: of each layer all, of which the strongest are in the last rows in deep layers."""
    draw = np.random.default_rng(query)
    pairs = [(to, start) for to in range(len(tokens)) for start in range(to)]
    strongest = []
    for layer in range(layers):
        values = draw.random(len(pairs)) * [
            1 + 9 * layer * (to == len(tokens) - 1 and start in (7, 14)) for to, start in pairs
        ]
        found = sorted(
            ((to, start, float(v)) for (to, start), v in zip(pairs, values, strict=True)), key=lambda f: -f[2]
        )
        strongest.append(found[:200])
    return FlowExample(
        query=query,
        label=1,
        probs=[0.25, 0.75],
        tokens=tokens,
        demonstrations=DEMONSTRATIONS,
        strongest=strongest,
        totals=[sum(value for *_, value in layer) for layer in strongest],
        means={flow: [0.1 * (i + 1) for _ in range(layers)] for i, flow in enumerate(FLOWS)},
    )


def saliency(accuracy: float = 0.5) -> Result:
    curve = Curve("layer", range(1, LAYERS + 1), [accuracy] * LAYERS, [0.1] * LAYERS)
    curves = {f"{flow}{kind}": curve for kind in ("_share", "") for flow in FLOWS}
    return Result({"accuracy": accuracy}, {"accuracy": 0.05}, curves)


def classification(names: Sequence[str] = ("bad", "good")) -> Result:
    table = Table(names, names, np.eye(len(names)).tolist())
    curves = {name: Curve("confidence", [0.5], [0.5]) for name in ("reliability", "confidence_share")}
    return Result({"accuracy": 0.5, "macro_f1": 0.4, "ece": 0.1}, curves=curves, tables={"confusion": table})
