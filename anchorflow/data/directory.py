"""The files of a dataset: one file, a directory with a file per split, or the output of `datasets.save_to_disk`."""

from __future__ import annotations

from pathlib import Path

import yaml

from anchorflow.data.tables import READERS, Table, from_disk, read_table, suffix
from anchorflow.errors import UserError, did_you_mean

Splits = tuple[Table, Table | None]
"""Train and test; None if the test split must be taken from the train rows."""


def read_splits(place: Path, train: str, test: str, instead: str = "") -> Splits:
    """The splits at a path; `train` and `test` name their files.

    Raises:
        UserError: a split is missing. The message ends with `instead`, an alternative.
    """
    if place.is_file():
        return read_table(place), None
    if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
        return chosen(from_disk(place), str(place), _stem(train), _stem(test))
    there = {file.name: file for file in sorted(place.iterdir()) if file.is_file() and suffix(file)}
    files = [_file(there, name) for name in (train, test)]
    if len(there) == 1 and files == [None, None] and _stem(next(iter(there))) not in ("train", "test", "validation"):
        return read_table(next(iter(there.values()))), None
    for name, file, key in zip((train, test), files, ("train_file", "test_file"), strict=True):
        if file is None:
            raise UserError(_lacks(place, name, key, list(there), instead))
    return tuple(read_table(file) for file in files if file)  # type: ignore[return-value]


def chosen(splits: dict[str, Table], place: str, train: str, test: str, key: str = "_file") -> Splits:
    """Two of the splits by name. Of a single split, the rows will be split."""
    if train in splits and len(splits) == 1:
        return splits[train], None
    for name, which in ((train, "train"), (test, "test")):
        if name not in splits:
            raise UserError(
                f"{place} has no split {name!r}; it has {', '.join(splits)}: write dataset.{which}{key}=NAME."
                f"{did_you_mean(name, splits)}"
            )
    return splits[train], splits[test]


def _file(there: dict[str, Path], name: str) -> Path | None:
    """The file with this name, or the only one with another ending (train.csv for train.jsonl)."""
    if name in there:
        return there[name]
    others = [file for other, file in there.items() if _stem(other) == _stem(name)]
    if len(others) > 1:
        raise UserError(
            f"{others[0].parent} has {' and '.join(file.name for file in others)}; name one with dataset.train_file or "
            "dataset.test_file."
        )
    return others[0] if others else None


def _lacks(place: Path, name: str, key: str, there: list[str], instead: str) -> str:
    """The message for a missing file of a split."""
    if not there:
        return f"{place} has no {name}, and no other file of examples; allowed: {', '.join(READERS)}."
    one = f", or dataset.path={place / there[0]} to split that file" if len(there) == 1 else ""
    return f"{place} has no {name}; it has {', '.join(there)}. Write dataset.{key}=FILE{one}{instead}."


def _stem(name: str) -> str:
    return name[: len(name) - len(suffix(Path(name)))] if suffix(Path(name)) else name


class _Loader(yaml.SafeLoader):
    """YAML that refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ValueError(f"the key {twice[0]!r} is given twice")
        return super().construct_mapping(node, deep)


def described(place: Path, allowed: tuple[str, ...]) -> dict[str, object]:
    """The settings of the `dataset.yaml` in a directory or next to a file. UserError for an unknown key."""
    path = (place if place.is_dir() else place.parent) / "dataset.yaml"
    if not path.is_file():
        return {}
    try:
        said = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader) or {}
        for key in said:
            if key not in allowed:
                raise ValueError(f"{key!r} is not a key of dataset.yaml; allowed: {', '.join(allowed)}")
        return dict(said.items())
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}.") from error
