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


def in_pieces(tokens: Sequence[str]) -> tuple[str, ...]:
    """The same prompt, whose third token is the second byte of a character."""
    return (*tokens[:1], " é", "", *tokens[3:])


def example(query: int = 3, tokens: Sequence[str] = TOKENS, layers: int = LAYERS, heads: int = 0) -> FlowExample:
    """Flows between random tokens: of each layer the 200 largest, which are in the last rows in deep layers.

    Every third lowers the loss; the part of head h is h times its share, with the flow's sign.
    """
    draw = np.random.default_rng(query)
    target, anchors = len(tokens) - 1, [d.anchor for d in DEMONSTRATIONS]
    pairs = [(to, start) for to in range(len(tokens)) for start in range(to)]
    kinds = [0 if to in anchors else 1 if to == target and start in anchors else 2 for to, start in pairs]
    strongest, totals, means = [], [], []
    for layer in range(layers):
        values = draw.random(len(pairs)) * [1 + 9 * layer * (kind == 1) for kind in kinds]
        flows = [(to, start, float(value)) for (to, start), value in zip(pairs, values, strict=True)]
        strongest.append(sorted(flows, key=lambda flow: -flow[2])[:200])
        totals.append(float(values.sum()))
        means.append([float(values[np.equal(kinds, kind)].mean()) for kind in range(3)])
    signs = [[-1 if i % 3 == 0 else 1 for i in range(len(layer))] for layer in strongest]
    shares = np.arange(1, heads + 1) / (heads * (heads + 1) / 2)
    parts = [
        [[float(sign * value * share) for share in shares] for (*_, value), sign in zip(layer, of_layer, strict=True)]
        for layer, of_layer in zip(strongest, signs, strict=True)
    ]
    return FlowExample(
        query=query,
        label=1,
        probs=[0.25, 0.75],
        tokens=tokens,
        demonstrations=DEMONSTRATIONS,
        strongest=strongest,
        totals=totals,
        means={flow: [of_layer[i] for of_layer in means] for i, flow in enumerate(FLOWS)},
        signs=signs,
        heads=parts if heads else (),
    )


def saliency(accuracy: float = 0.5) -> Result:
    curve = Curve("layer", range(1, LAYERS + 1), [accuracy] * LAYERS, [0.1] * LAYERS)
    curves = {f"{flow}{kind}": curve for kind in ("_share", "") for flow in FLOWS}
    return Result({"accuracy": accuracy}, {"accuracy": 0.05}, curves)


def classification(names: Sequence[str] = ("bad", "good")) -> Result:
    table = Table(names, names, np.eye(len(names)).tolist())
    curves = {name: Curve("confidence", [0.5], [0.5]) for name in ("reliability", "confidence_share")}
    return Result({"accuracy": 0.5, "macro_f1": 0.4, "ece": 0.1}, curves=curves, tables={"confusion": table})
