"""The strongest flows in single prompts, saved in the run's directory for the flow view of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from anchorflow.prompts import Demonstration
from anchorflow.results import dumps, write_atomically

FLOWS = ("S_wp", "S_pq", "S_ww")
"""Words to label words, label words to the target, words to words."""

FOLDER = "examples"
DIGITS, HEAD_DIGITS = 6, 3


@dataclass(frozen=True, kw_only=True)
class FlowExample:
    """A prompt of `tokens` (as text) up to and including the target, and the flows in it.

    `strongest` has, for every layer, the largest I (see Saliency) as (to, from, I), strongest first; `totals` has the sum
    of all I of each layer; `means` has the query's S_wp, S_pq and S_ww over the layers. `probs` are over the label words.
    `signs` has the sign of Σ_h A ⊙ ∂L/∂A for each of the strongest flows: 1 if more attention raises the loss, -1 if it
    lowers the loss. `heads` has the summands, one number per head. Either may be missing.
    """

    __pydantic_config__: ClassVar[dict[str, bool]] = {"allow_inf_nan": False}

    query: int
    label: int
    probs: Sequence[float]
    tokens: Sequence[str]
    demonstrations: Sequence[Demonstration]
    strongest: Sequence[Sequence[tuple[int, int, float]]]
    totals: Sequence[float]
    means: Mapping[str, Sequence[float]]
    signs: Sequence[Sequence[Literal[1, -1]]] = ()
    heads: Sequence[Sequence[Sequence[float]]] = ()
    numbers: Sequence[int] = ()
    """The model's own numbers of these layers, from 1, if not all of its layers have attention maps."""

    def __post_init__(self) -> None:
        last = len(self.tokens) - 1
        if any(not 0 <= start < to <= last for layer in self.strongest for to, start, _ in layer):
            raise ValueError(f"a flow does not lead from one of the {last + 1} tokens to a later one")
        if not self.demonstrations or set(self.means) != set(FLOWS) or not 0 <= self.label < len(self.probs):
            raise ValueError("demonstrations, a mean or the label is missing")
        places = [i for d in self.demonstrations for i in (d.start, d.stop - 1, d.anchor, *d.label_word)]
        if any(not 0 <= i <= last for i in places):
            raise ValueError(f"a demonstration does not lie within the {last + 1} tokens")
        if any(len(of_layers) != len(self.strongest) for of_layers in (self.totals, *self.means.values())):
            raise ValueError(f"some numbers are missing for the {len(self.strongest)} layers")
        flows = [len(layer) for layer in self.strongest]
        if any(given and [len(layer) for layer in given] != flows for given in (self.signs, self.heads)):
            raise ValueError("signs or heads do not match its flows")
        if len({len(parts) for layer in self.heads for parts in layer}) > 1:
            raise ValueError("its flows have different numbers of heads")

    def write(self, folder: Path) -> Path:
        """Write it into a run's directory, atomically; flows are rounded to six digits, those of heads to three."""
        path = folder / FOLDER / f"query{self.query}.json"
        path.parent.mkdir(exist_ok=True)
        strongest = [[(to, start, _rounded(value, DIGITS)) for to, start, value in layer] for layer in self.strongest]
        heads = [[[_rounded(part, HEAD_DIGITS) for part in parts] for parts in layer] for layer in self.heads]
        rounded = {**asdict(self), "strongest": strongest, "heads": heads}
        write_atomically(path, dumps({key: value for key, value in rounded.items() if key != "heads" or value}) + "\n")
        return path


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")


def read_examples(folder: Path) -> tuple[list[FlowExample], list[str]]:
    """The examples that a run saved, ordered by query, and a message for each damaged file."""
    from pydantic import TypeAdapter, ValidationError

    found, problems = [], []
    for path in sorted((folder / FOLDER).glob("query*.json")):
        try:
            found.append(TypeAdapter(FlowExample).validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            problems.append(f"{path} is damaged ({reason}).")
    return sorted(found, key=lambda example: example.query), problems
