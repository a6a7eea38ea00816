"""Experiments whose settings are fixed and whose work is still to be written.

They compose and are checked like the others, so that sweeps can be laid out; a run says that it cannot go on.
Each moves to a file of its own when it is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from anchorflow.experiments.few_shot import FewShot


@dataclass(frozen=True, kw_only=True)
class Isolation(FewShot):
    """Loyalty to the untouched model when label words cannot see their demonstration (sec. 2.2)."""

    name: ClassVar[str] = "isolation"
    fewest_shots: ClassVar[int] = 1
    first_or_last_k: tuple[int, ...] = (1, 3, 5, 7)
    random_draws: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.first_or_last_k or min(self.first_or_last_k) < 1:
            raise ValueError(f"first_or_last_k is {list(self.first_or_last_k)}; allowed: numbers of layers from 1")
        if self.random_draws < 1:
            raise ValueError(f"random_draws is {self.random_draws}; allowed: 1 or more")


@dataclass(frozen=True, kw_only=True)
class AttentionPrediction(FewShot):
    """How well attention to the label words tells the model's prediction (sec. 2.3)."""

    name: ClassVar[str] = "attention_prediction"
    fewest_shots: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class Reweighting(FewShot):
    """Learned weights on the attention to the label words (sec. 3.1)."""

    name: ClassVar[str] = "reweighting"
    fewest_shots: ClassVar[int] = 1
    lr: float = 0.01
    epochs: int = 10
    train_per_class: int = 4
    beta: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; allowed: more than 0")
        for key in ("epochs", "train_per_class"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} is {getattr(self, key)}; allowed: 1 or more")


@dataclass(frozen=True, kw_only=True)
class Compression(FewShot):
    """Demonstrations replaced by the keys and values of their label and formatting words (sec. 3.2)."""

    name: ClassVar[str] = "compression"
    fewest_shots: ClassVar[int] = 1
    positions: Literal["original", "restart"] = "original"
    random_sets: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.random_sets < 1:
            raise ValueError(f"random_sets is {self.random_sets}; allowed: 1 or more")


@dataclass(frozen=True, kw_only=True)
class Diagnosis(FewShot):
    """Which classes have near anchors, and which are confused (sec. 3.3)."""

    name: ClassVar[str] = "diagnosis"
    fewest_shots: ClassVar[int] = 1
    layer: int | None = None
    components: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer is not None and self.layer < 1:
            raise ValueError(f"layer is {self.layer}; allowed: 1 (the first) to the model's depth, or null")
        if self.components < 1:
            raise ValueError(f"components is {self.components}; allowed: 1 or more")


@dataclass(frozen=True, kw_only=True)
class LabelRelationships:
    """Curves over the number of examples under label regimes (In-Context Learning Learns Label Relationships)."""

    name: ClassVar[str] = "label_relationships"
    regimes: tuple[str | dict[str, Any], ...] = ("default", "random", "flipped")
    n_demonstrations: int | None = None
    repetitions: int = 100
    instruction: Literal["none", "classify", "invert", "ignore"] = "none"
    calibrate: bool = False

    def __post_init__(self) -> None:
        if self.repetitions < 1:
            raise ValueError(f"repetitions is {self.repetitions}; allowed: 1 or more")
        if self.n_demonstrations is not None and self.n_demonstrations < 1:
            raise ValueError(f"n_demonstrations is {self.n_demonstrations}; allowed: 1 or more, or null")
