"""A made-up result of each experiment of this package, with the names that its `reduce` gives."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from anchorflow.experiments.compression import VARIANTS
from anchorflow.experiments.isolation import KINDS, MEASURES
from anchorflow.experiments.label_relationships import MEASURES as MEASURES_OF_LABELS
from anchorflow.results import Curve, Result, Table

NAN = math.nan
LONG = "a label with quite a long name"
Numbers = Iterator[float | None]


def known() -> Numbers:
    return itertools.cycle([0.3, 0.9, 0.5, 0.0, 0.7])


def with_gaps(hole: float | None) -> Callable[[], Numbers]:
    return lambda: itertools.cycle([0.3, hole, 0.5, hole, hole, 0.7])


def undefined(hole: float | None) -> Callable[[], Numbers]:
    return lambda: itertools.repeat(hole)


VALUES = {
    "known": known,
    "nan in places": with_gaps(NAN),
    "None in places": with_gaps(None),
    "nan everywhere": undefined(NAN),
    "None everywhere": undefined(None),
}


@dataclass
class MadeUp:
    """A method for each experiment; `values` are those of its layers, epochs, heads or ks, of which there are `places`."""

    values: Numbers
    places: int
    classes: int
    stderr: bool

    def take(self, n: int) -> list[float]:
        return list(itertools.islice(self.values, n))  # type: ignore[arg-type]

    def curve(self, x: str) -> Curve:
        n = self.places
        return Curve(x, range(1, n + 1), self.take(n), self.take(n) if self.stderr else None)

    def table(self, rows: list[str], columns: list[str]) -> Table:
        return Table(rows, columns, [self.take(len(columns)) for _ in rows])

    def of_classes(self) -> Table:
        names = ["$5", LONG, "$x_$", "Person", "Location", "Number"][: self.classes]
        return self.table(names, names)

    def saliency(self) -> Result:
        flows = ("S_wp", "S_pq", "S_ww")
        return Result({}, curves={flow + suffix: self.curve("layer") for flow in flows for suffix in ("", "_share")})

    def classification(self) -> Result:
        bins = [(i + 0.5) / self.places for i in range(self.places)]
        curves = {
            name: Curve("confidence", bins, self.take(self.places)) for name in ("reliability", "confidence_share")
        }
        return Result({}, curves=curves, tables={"confusion": self.of_classes()})

    def isolation(self) -> Result:
        return Result({}, curves={f"{kind}/{measure}": self.curve("k") for kind in KINDS for measure in MEASURES})

    def attention_prediction(self) -> Result:
        curves = {name: self.curve("layer") for name in ("AUCROC", "R")}
        return Result({}, curves=curves, notes=["what is left out: " + LONG * 9])

    def reweighting(self) -> Result:
        counted = [str(i + 1) for i in range(self.places)]
        return Result({}, curves={"train_loss": self.curve("epoch")}, tables={"beta": self.table(counted, counted)})

    def compression(self) -> Result:
        keys = [f"{name}/{key}" for name in VARIANTS for key in (*MEASURES, "kept_tokens", "kept_share", "speedup")]
        found = dict(zip(keys, self.take(len(keys)), strict=True))
        return Result(found, stderr=found if self.stderr else {})

    def label_relationships(self) -> Result:
        regimes = ("default", "flipped", "flip_after_2", "alternating_1", "replaced_A_B")
        keys = [f"{name}/{measure}" for name in regimes for measure in MEASURES_OF_LABELS]
        keys += [f"{name}/flipped_{measure}" for name in regimes[1:4] for measure in ("accuracy", "log_likelihood")]
        n = self.places
        drawn = {
            key: Curve("n_demonstrations", range(n), self.take(n), self.take(n) if self.stderr else None)
            for key in keys
        }
        guessing = dict(zip([f"guessing/{measure}" for measure in MEASURES_OF_LABELS], self.take(3), strict=True))
        return Result(guessing, curves=drawn, notes=["flip_after_2 never has equally many true and flipped labels"])

    def diagnosis(self) -> Result:
        return Result(
            {"layer": self.places},
            curves={"spearman_by_layer": self.curve("layer")},
            tables={"confusion": self.of_classes(), "predicted_confusion": self.of_classes()},
            notes=["spearman is undefined", "no query of these classes was drawn"],
        )


MADE_UP = sorted(
    name for name, made in vars(MadeUp).items() if getattr(made, "__annotations__", {}).get("return") is Result
)
"""The experiments that have a made-up result."""


def made_up(experiment: str, values: Numbers, places: int = 8, classes: int = 6, stderr: bool = True) -> Result:
    found: Result = getattr(MadeUp(values, places, classes, stderr), experiment)()
    return found
