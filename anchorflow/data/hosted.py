"""Any dataset on the hub, by its id: `dataset=hub dataset.id=nyu-mll/glue dataset.subset=sst2`."""

from anchorflow.data import directory
from anchorflow.data.dataset import Dataset
from anchorflow.data.sources import NotHere, hub_splits
from anchorflow.data.tables import of_split
from anchorflow.data.task import Provenance, Task
from anchorflow.errors import UserError
from anchorflow.settings import configurable, setting


@configurable
class Hosted(Dataset):
    """A dataset on the hub; columns and splits are set here or detected."""

    id: str | None = setting(default=None, kind="source")
    """Its id on the hub: OWNER/NAME."""
    subset: str | None = setting(default=None, kind="source")
    """One of several datasets with this id (sst2 of nyu-mll/glue)."""
    revision: str | None = setting(default=None, kind="source")
    """A branch, tag or commit."""
    train_split: str = setting(default="train", kind="source")
    """The split from which demonstrations are drawn."""
    test_split: str = setting(default="test", kind="source")
    """The split from which queries are drawn (validation if the test labels are withheld). A dataset with a single split is
    split by a hash of its texts."""

    def _named(self) -> str:
        if self.id is None:
            raise ValueError("id is missing; write dataset.id=OWNER/NAME, such as dataset.id=stanfordnlp/imdb")
        name = self.id.rpartition("/")[2]
        return name if self.subset is None else f"{name}-{self.subset}"

    def load(self) -> Task:
        """Load the task. UserError if the hub cannot be reached, or for an invalid row."""
        assert self.id is not None
        try:
            splits, revision = hub_splits(self.id, self.subset, self.revision)
        except NotHere as reason:
            raise UserError(f"dataset.id is {self.id!r}, which cannot be loaded: {reason}.") from reason
        tables = {name: of_split(f"{self.id}, split {name}", split) for name, split in splits.items()}
        chosen = directory.chosen(tables, self.id, self.train_split, self.test_split, "_split")
        split = None if chosen[1] is None else self.test_split
        holds = self.holds or (split if split != "test" else None)
        return self.from_tables(chosen, Provenance("hub", revision, place="hub", holds=holds, split=split), self.id)
