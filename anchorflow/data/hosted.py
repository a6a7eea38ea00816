"""Any dataset of the hub, by its id: `dataset=hub dataset.id=nyu-mll/glue dataset.subset=sst2`."""

from anchorflow.data import directory
from anchorflow.data.dataset import Dataset
from anchorflow.data.sources import NotHere, hub_splits
from anchorflow.data.tables import of_split
from anchorflow.data.task import Provenance, Task
from anchorflow.errors import UserError
from anchorflow.settings import configurable, setting


@configurable
class Hosted(Dataset):
    """A dataset on the hub: which columns and splits it has is said here, or seen there."""

    id: str | None = setting(default=None, kind="source")
    """What the hub calls it: OWNER/NAME."""
    subset: str | None = setting(default=None, kind="source")
    """One of several datasets under this id (sst2 of nyu-mll/glue)."""
    revision: str | None = setting(default=None, kind="source")
    """A branch, tag or commit."""
    train_split: str = setting(default="train", kind="source")
    """The split that demonstrations come from."""
    test_split: str = setting(default="test", kind="source")
    """The split that queries come from (validation, where the labels of test are withheld). A dataset with one split alone
    is split by a hash of its texts."""

    def _named(self) -> str:
        if self.id is None:
            raise ValueError("id is missing; write dataset.id=OWNER/NAME, as dataset.id=stanfordnlp/imdb")
        name = self.id.rpartition("/")[2]
        return name if self.subset is None else f"{name}-{self.subset}"

    def load(self) -> Task:
        """The task. UserError where the hub cannot be reached, or for a bad row."""
        assert self.id is not None
        try:
            splits, revision = hub_splits(self.id, self.subset, self.revision)
        except NotHere as reason:
            raise UserError(f"dataset.id is {self.id!r}, which cannot be had: {reason}.") from reason
        tables = {name: of_split(f"{self.id}, split {name}", split) for name, split in splits.items()}
        chosen = directory.chosen(tables, self.id, self.train_split, self.test_split, "_split")
        split = None if chosen[1] is None else self.test_split
        holds = self.holds or (split if split != "test" else None)
        return self.from_tables(chosen, Provenance("hub", revision, place="hub", holds=holds, split=split), self.id)
