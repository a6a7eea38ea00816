"""A synthetic task that no pre-training can know: invented creatures are assigned to one of two clans at random.

The label of a sentence is the clan of the creature that it begins with, a rule that can be learned from
context alone. The task replaces the private data of the label-relationships paper, which was never released.
"""

import random

from anchorflow.data.dataset import Dataset
from anchorflow.data.task import Example, Provenance, Task
from anchorflow.settings import configurable

_DEEDS = ("crossed", "watched", "followed", "painted", "mended", "left", "found", "circled")
_PLACES = ("river", "market", "bridge", "orchard", "harbour", "tower", "meadow", "station")
_TIMES = ("at dawn", "at noon", "in the rain", "on Monday", "before supper", "all night", "last winter", "twice")


@configurable
class Novel(Dataset):
    """Synthetic sentences about invented creatures; the label is the clan of the first creature."""

    rule_seed: int = 0
    """The seed of the creatures' names and clans."""
    creatures: int = 12
    """The number of creatures, from 4 to 200."""
    n_train: int = 2000
    """Train examples."""
    n_test: int = 500
    """Test examples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.creatures < 4 or self.creatures > 200:
            raise ValueError(f"creatures is {self.creatures}; allowed: 4 to 200")
        for key in ("n_train", "n_test"):
            if getattr(self, key) < 2:
                raise ValueError(f"{key} is {getattr(self, key)}; allowed: 2 or more")

    def load(self) -> Task:
        """Generate the task; the same settings give the same sentences."""
        generator = random.Random(f"novel/{self.rule_seed}")
        names: list[str] = []
        while len(names) < self.creatures:
            name = "".join(generator.choice("bdfgklmnprstvz") + generator.choice("aeiou") for _ in range(3)).title()
            if name not in names:
                names.append(name)
        clans = {name: k % 2 for k, name in enumerate(generator.sample(names, len(names)))}

        def rows(n: int) -> list[Example]:
            made = []
            for row in range(n):
                first, second = generator.sample(names, 2)
                words: list[str] = [generator.choice(kind) for kind in (_DEEDS, _PLACES, _TIMES)]
                made.append(Example(row, f"{first} {words[0]} the {words[1]} with {second} {words[2]}.", clans[first]))
            return made

        return self.task(rows(self.n_train), rows(self.n_test), Provenance("synthetic", None), "novel")
