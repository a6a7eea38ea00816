"""What a sweep will do, worked out before anything runs."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from anchorflow.errors import UserError
from anchorflow.runs import SWEEP_WIDE, RunDirectory, execute, read_settings
from anchorflow.sweep import Launcher, plan, prepare_hydra
from anchorflow.sweep.cells import Cell
from anchorflow.sweep.hydra_internals import compose
from anchorflow.sweep.liveness import Jobs
from tests.conftest import ROOT, write_dataset
from tests.launching import on_tiny

CONF = str(ROOT / "conf")
HERE = Launcher(mode="local")


def cells(folder: Path, *grid: Sequence[str], common: Sequence[str] = ()) -> list[Cell]:
    """The cells of a sweep into `folder`; each has the overrides of one item, the sweep as a whole those in common."""
    prepare_hydra()
    with initialize_config_dir(CONF, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        common = [f"hydra.sweep.dir={folder}", *common]
        master = loader.load_configuration("config", overrides=common, run_mode=RunMode.MULTIRUN)
        return list(compose(loader, master, grid))


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., list[Cell]]:
    data = write_dataset(tmp_path / "data", train=12, test=8)
    given = (*on_tiny(data), "experiment.n_queries=3")

    def make(*grid: Sequence[str]) -> list[Cell]:
        return cells(tmp_path / "outputs", *((*given, *overrides) for overrides in grid))

    return make


@pytest.mark.slow
def test_cells_that_share_a_composition_are_what_hydra_composes_for_each(tmp_path: Path) -> None:
    grid = [
        ["model=gpt2", "dataset=trec", "seed=1"],
        ["model=gpt2", "dataset=trec", "seed=2", "experiment.n_queries=null"],
        ["sweep=fig3_saliency", "model=gpt2", "dataset=trec", "seed=3"],
        ["sweep=fig3_saliency", "sweep.scale=small", "model=gpt2", "dataset=sst2", "seed=3"],
        ["sweep=nh3_changing_labels", "model=llama2-7b", "dataset=rte", "dtype=float32"],
        ["experiment=label_relationships", "experiment.regimes=[default,{noise: 0.25}]", "tracking.tags=[a]"],
        ["experiment=isolation", "experiment.first_or_last_k.0=2", "seed=4"],
        ["+experiment.more=1", "~tracking.tags"],
    ]
    found = cells(tmp_path, *grid)
    with initialize_config_dir(CONF, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        for cell, overrides in zip(found, grid, strict=True):
            config = loader.load_configuration("config", overrides=overrides, run_mode=RunMode.RUN)
            own = [key for key in config if key not in ("hydra", *SWEEP_WIDE)]
            expected = {key: OmegaConf.to_container(config, resolve=False)[key] for key in own}  # type: ignore[index]
            resolved: Any = {key: _resolved(config, str(key)) for key in expected}
            assert cell.config == resolved
            if cell.problem is None:
                assert cell.folder == tmp_path / read_settings(resolved).name
            assert cell.hydra["overrides"]["task"] == list(overrides) == list(cell.overrides)
            assert Path(cell.hydra["job_logging"]["handlers"]["file"]["filename"]).parent == cell.folder
    assert [cell.problem for cell in found[:-1]] == [None] * (len(grid) - 1)
    assert "experiment.more is not a setting of Saliency" in str(found[-1].problem)


def _resolved(config: Any, key: str) -> Any:
    node = config[key]
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def test_a_pack_has_one_model_and_packs_are_of_like_size(tiny: Callable[..., list[Cell]]) -> None:
    grid = [[f"model.layers={layers}", f"seed={seed}"] for seed in range(6) for layers in (1, 2)] + [["model.layers=3"]]
    made = tiny(*grid)

    def packed(**settings: int) -> list[tuple[Cell, ...]]:
        packs = plan.into_packs(made, Launcher(mode="slurm", **settings))
        assert all(len({cell.model for cell in pack}) == 1 for pack in packs)
        assert sorted(cell.name for pack in packs for cell in pack) == sorted(cell.name for cell in made)
        return packs

    assert sorted(map(len, packed())) == [1, 6, 6]
    assert sorted(map(len, packed(packs=1))) == [1, 6, 6]  # a model is not shared
    assert sorted(map(len, packed(packs=6))) == [1, 2, 2, 2, 2, 2, 2]
    assert sorted(map(len, packed(cells_per_pack=4))) == [1, 3, 3, 3, 3]
    assert sorted(map(len, packed(packs=100))) == [1] * 13
    assert len({cell.model for cell in tiny(["device=cpu"], ["dtype=float64", "device=cpu"])}) == 2
    parts = [replace(made[0], shard=plan.Shard(i + 1, 3)) for i in range(3)]
    assert [len(pack) for pack in plan.into_packs(parts, Launcher(mode="slurm"))] == [1, 1, 1]


def test_finished_cells_are_left_out_and_those_that_cannot_run_are_refused(tiny: Callable[..., list[Cell]]) -> None:
    made = tiny(["seed=1"], ["seed=2"], ["seed=3"], ["experiment.n_queries=99"], ["experiment.shots_per_class=0"])
    execute(made[0].config, _there(made[0]))
    RunDirectory(_there(made[1])).report("failed", error="it broke")
    found = plan.make(made, HERE, only_failed=False, jobs=Jobs())
    assert [planned.fate for planned in found.cells] == ["done", "to run", "to run", "refused", "refused"]
    assert "n_queries is 99; local has 8 test examples" in found.cells[3].why
    assert "shots_per_class is 0" in found.cells[4].why
    assert found.packs == ((made[1], made[2]),)
    shown = plan.table(found, HERE).splitlines()
    assert shown[0].split() == ["model", "cells", "done", "refused", "to", "run", "packs"]
    assert shown[1].split() == ["tiny", "5", "1", "2", "2", "1"]
    assert shown[2].startswith("refused: saliency/tiny/local/seed42")
    again = plan.make(made, HERE, only_failed=True, jobs=Jobs())
    assert [planned.fate for planned in again.cells] == ["done", "to run", "left out", "left out", "left out"]


def test_what_the_prompts_of_a_cell_would_fail_for_is_known_before_a_model_is_loaded(
    tiny: Callable[..., list[Cell]], tmp_path: Path
) -> None:
    rows = (tmp_path / "data" / "test.jsonl").read_text()
    endless = json.dumps({"text": "so " * 2000, "label": 0}) + "\n"
    (tmp_path / "data" / "test.jsonl").write_text(rows + endless)
    every = ["experiment.n_queries=null"]
    relations = ["experiment=label_relationships", "experiment.n_demonstrations=12"]
    made = tiny(
        every,
        [*every, "too_long=skip"],
        [*every, "too_long=skip", "experiment.shots_per_class=6", f"dataset.path={_long(tmp_path / 'long')}"],
        ["dataset.label_words=[' good', ' goodness']"],
        ["experiment.n_queries=3"],
    )
    made += cells(tmp_path / "outputs", [*on_tiny(tmp_path / "long"), *relations])
    found = plan.make(made, HERE, only_failed=False, jobs=Jobs())
    assert [planned.fate for planned in found.cells] == ["refused", "to run", "refused", "refused", "to run", "refused"]
    whys = [planned.why for planned in found.cells]
    assert re.search(r"the prompt for test row 8 has \d+ tokens; the context of tiny is 2048", whys[0])
    assert "all 8 prompts are longer than the 2048 tokens of tiny" in whys[2]
    assert "begin with the same token" in whys[3]
    assert re.search(r"the prompt for repetition 0 has \d+ tokens; the context of tiny is 2048", whys[5])


def _long(folder: Path) -> Path:
    """Data whose demonstrations fill the toy's context."""
    write_dataset(folder)
    for split in ("train", "test"):
        rows = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        lines = [json.dumps({**row, "text": row["text"] + " so" * 200}) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def _there(cell: Cell) -> Path:
    cell.folder.mkdir(parents=True, exist_ok=True)
    return cell.folder


def test_a_result_of_other_data_is_not_taken_for_the_cells_own(tiny: Callable[..., list[Cell]], tmp_path: Path) -> None:
    (cell,) = tiny([])
    execute(cell.config, _there(cell))
    write_dataset(tmp_path / "data", train=12, test=9)
    (planned,) = plan.make([cell], HERE, only_failed=False, jobs=Jobs()).cells
    assert planned.fate == "refused"
    assert "holds the result of another run" in planned.why


def test_a_damaged_result_is_refused_by_name_and_the_others_go_on(tiny: Callable[..., list[Cell]]) -> None:
    made = tiny(["seed=1"], ["seed=2"], ["seed=3"])
    (_there(made[0]) / "result.json").write_text("{}")
    (_there(made[1]) / "result.json").write_text('{"identity": "a')
    found = plan.make(made, HERE, only_failed=False, jobs=Jobs())
    assert [planned.fate for planned in found.cells] == ["refused", "refused", "to run"]
    assert all("result.json is damaged" in planned.why for planned in found.cells[:2])


def test_a_run_given_twice_is_refused(tiny: Callable[..., list[Cell]]) -> None:
    with pytest.raises(UserError, match=r"two cells of the sweep are the same run, saliency/tiny/local/seed1-"):
        plan.make(tiny(["seed=1"], ["seed=2"], ["seed=1"]), HERE, only_failed=False, jobs=Jobs())


def test_shards_are_work_of_their_own_but_for_a_sweep_in_this_process(tiny: Callable[..., list[Cell]]) -> None:
    made = tiny(["experiment.shards=3"])
    assert [cell.shard for (cell,) in plan.make(made, HERE, only_failed=False, jobs=Jobs()).packs] == [None]
    packs = plan.make(made, Launcher(mode="slurm"), only_failed=False, jobs=Jobs()).packs
    assert [cell.shard for (cell,) in packs] == [(1, 3), (2, 3), (3, 3)]
    assert made[0].folder == tiny([])[0].folder  # the same run in one part


def test_the_source_that_auto_chose_is_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "sst2")
    monkeypatch.setenv("ANCHORFLOW_DATA", str(tmp_path))
    given = ("model=tiny", "tracking=none", "experiment.n_queries=3", "dataset.test_file=test.jsonl")
    made = cells(
        tmp_path / "outputs",
        [*given, "dataset=sst2"],
        [*given, "dataset=sst2", "seed=1"],
        [*given[:3], "dataset=novel"],
    )
    found = plan.make(made, HERE, only_failed=False, jobs=Jobs())
    assert [p.cell.config["dataset"]["source"] for p in found.cells] == ["directory", "directory", "auto"]
    assert [p.cell.folder for p in found.cells] == [cell.folder for cell in made]
    assert (
        "data, chosen by dataset.source=auto and fixed for this sweep: sst2 (directory)"
        in plan.table(found, HERE).splitlines()
    )
    frozen = found.packs[0][0]
    assert frozen.config["dataset"]["source"] == "directory"
    for file in (tmp_path / "sst2").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"sst2 has no train.jsonl, and no other file of examples"):
        execute(frozen.config, _there(frozen))


def test_a_preset_at_full_size_takes_no_source_without_the_papers_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANCHORFLOW_DATA", raising=False)
    given = ("model=tiny", "tracking=none", "experiment.n_queries=3", "dataset=trec")
    asked = cells(
        tmp_path,
        given,
        [*given, "dataset.source=package"],
        [*given[:3], "dataset=financial_phrasebank"],
        ["model=tiny", "dataset=trec", "experiment=label_relationships", "experiment.n_demonstrations=4"],
    )
    refused, *others = plan.make(asked, HERE, only_failed=False, jobs=Jobs(), preset="fig3_saliency").cells
    assert refused.why == (
        "sweep=fig3_saliency takes the paper's data: trec, official splits mixed (StaICC) has no test split of its "
        "own. Set ANCHORFLOW_DATA to a directory with trec/train.jsonl and trec/test.jsonl, or accept a fifth of its rows "
        "as test split with dataset.source=package."
    )
    assert [planned.fate for planned in others] == ["to run"] * 3
    (small, *_) = plan.make(asked, HERE, only_failed=False, jobs=Jobs()).cells
    assert small.fate == "to run"
