"""What the jobs of each model are given."""

from pathlib import Path
from typing import Any

import pytest

from anchorflow.errors import UserError
from anchorflow.models import Resources
from anchorflow.runs.memory import Demand
from anchorflow.settings import build
from anchorflow.sweep import Launcher, plan, slurm
from anchorflow.sweep.allocation import allocate, fits, refuse_impossible
from anchorflow.sweep.cells import Cell
from anchorflow.sweep.liveness import Jobs
from tests.sweep.test_plan import cells

GB = 10**9


def slurm_with(**settings: Any) -> Launcher:
    made: Launcher = build({"mode": "slurm", **settings}, "launcher", Launcher)
    return made


def gpus(cell: Cell) -> Any:
    return cell.allocation and cell.allocation.gpus_per_node


def test_the_sweeps_word_for_a_model_comes_first_then_the_models_own_then_the_word_for_all(tmp_path: Path) -> None:
    large, small, on_cpu = cells(tmp_path, ["model=llama-65b"], ["model=gpt2"], ["model=llama-65b", "device=cpu"])
    general = slurm_with(gpus_per_node=1)
    found = allocate(large, general, None, 0)
    assert (gpus(found), found.config["model"]["device_map"]) == (4, "auto")
    assert allocate(small, general, None, 0) == small
    assert allocate(on_cpu, general, None, 0) == on_cpu
    own = slurm_with(gpus_per_node=1, per_model={"llama-*": {"gpus_per_node": 8, "mem_gb": 300}, "gpt2": {}})
    found = allocate(large, own, None, 0)
    assert found.allocation is not None
    assert found.allocation.resources == {"gpus_per_node": 8, "mem_gb": 300, "timeout_min": 60}
    assert allocate(small, own, None, 0) == small


def test_where_nobody_says_there_are_as_many_gpus_as_hold_the_model(tmp_path: Path) -> None:
    (cell,) = cells(tmp_path, ["model=llama-30b"])
    launcher = slurm_with(gpu_mem_gb=40)
    takes = Demand(weights=65 * GB, token=0.0, position=0)
    for rest, enough in ((5, 2), (15, 3), (50, 1)):  # of every GPU the rest takes its part
        size = takes.weights + rest * GB
        found = allocate(cell, launcher, takes, size)
        assert gpus(found) == enough
        assert fits(found, launcher, takes, size) == (enough > 1)
    said = slurm_with(gpu_mem_gb=40, gpus_per_node=1)
    assert allocate(cell, said, takes, 70 * GB) == cell
    assert not fits(cell, said, takes, 70 * GB)
    (tiny,) = cells(tmp_path, ["model=tiny"])  # has one device
    assert gpus(allocate(tiny, launcher, takes, 70 * GB)) == 1


def test_packs_that_are_given_the_same_follow_one_another(tmp_path: Path) -> None:
    grid = [
        [f"model={model}", "dataset=novel", "tracking=none", f"seed={seed}"] for seed in (1, 2) for model in ["tiny"]
    ]
    grid += [[*overrides, f"model.name={name}", "model.layers=2"] for name in ("b", "c") for overrides in grid[:2]]
    launcher = slurm_with(per_model={"b": {"mem_gb": 3}})
    made = plan.make(cells(tmp_path, *grid), launcher, only_failed=False, jobs=Jobs())
    kinds = [pack[0].allocation and pack[0].allocation.mem_gb for pack in made.packs]
    assert sorted(kinds, key=str) == [3, None, None]
    assert kinds[1] is None
    shown = plan.table(made, launcher)
    assert "packs of b with mem_gb 3.0, timeout_min 60" in shown
    assert "packs of tiny, c with timeout_min 60" in shown
    with pytest.raises(UserError, match=r"launcher.per_model names 'gpt2'; models of this sweep: b, c, tiny\."):
        plan.make(cells(tmp_path, *grid), slurm_with(per_model={"gpt2": {}}), only_failed=False, jobs=Jobs())


@pytest.mark.parametrize(
    ("varying", "said"),
    [
        (
            ("launcher.gpus_per_node=1", "launcher.gpus_per_node=2"),
            "launcher.gpus_per_node is 1 for .* and None for the",
        ),
        (("sweep.wait=false", "sweep.wait=true"), "sweep.wait is False for"),
        (
            ("model=tiny", "model=gpt2"),
            "launcher.mem_gb is 2 for model=gpt2 .* and 1 for the sweep.* use launcher.per_model.",
        ),
    ],
)
def test_what_cannot_differ_between_cells_is_refused(tmp_path: Path, varying: tuple[str, ...], said: str) -> None:
    by = "launcher.mem_gb='${by:model.name,{gpt2:2,else:1}}'"
    more = [by] if "model=gpt2" in varying else []
    with pytest.raises(UserError, match=said):
        cells(tmp_path, *([one, *more] for one in varying), common=more)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gpus_per_node": -1}, "gpus_per_node is -1; allowed: 0 or more"),
        ({"cpus_per_task": 0}, "cpus_per_task is 0; allowed: 1 or more"),
        ({"mem_gb": 0}, "mem_gb is 0.0; allowed: more than 0"),
        ({"gpus": 4}, "gpus is not a setting of Resources|per_model.gpt2.gpus is 4: unexpected"),
    ],
)
def test_resources_are_checked(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        slurm_with(per_model={"gpt2": given})
    assert Resources(mem_gb=2).given == {"mem_gb": 2.0}


def test_what_no_node_has_is_refused_before_anything_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "%P %l": "main* 1:00:00\nsmall 2:00:00\n",
        "%R|%c|%m|%G": "main|8|65536|gpu:a100:4(S:0-1),gpu:2\nmain|64|32768|(null)\nsmall|2|1024|(null)\n",
    }
    monkeypatch.setattr(slurm, "ask", lambda *command: said[command[-1]])

    def ask(**settings: Any) -> None:
        refuse_impossible([slurm_with(), slurm_with(**settings)], ["gpt2", "llama-65b"])

    ask(gpus_per_node=6, mem_gb=64, cpus_per_task=8)
    ask(gpus_per_node=60, additional_parameters={"gpus_per_node": 1})
    ask(gpus_per_node=60, additional_parameters={"partition": "main"})
    for settings, complaint in (
        ({"gpus_per_node": 7}, r"launcher.gpus_per_node is 7; allowed in partition main \(model llama-65b\): up to 6"),
        ({"partition": "small", "gpus_per_node": 1}, "launcher.gpus_per_node is 1; .* up to 0"),
        ({"mem_gb": 65}, "launcher.mem_gb is 65; .* up to 64"),
        ({"cpus_per_task": 65}, "launcher.cpus_per_task is 65; .* up to 64"),
        ({"cpus_per_task": 32, "gpus_per_node": 1}, "no node in partition main .* has .*cpus_per_task 32 together"),
        ({"timeout_min": 61}, "launcher.timeout_min is 61; allowed in partition main: up to 60"),
        ({"partition": "none"}, "launcher.partition is 'none'; allowed on this cluster: main, small"),
    ):
        with pytest.raises(UserError, match=complaint):
            ask(**settings)
    said["%P %l"] = "main 1:00:00\n"
    with pytest.raises(
        UserError, match=r"launcher.partition is not set, and the cluster has no default; allowed: main\."
    ):
        ask()
    said["%P %l"] = ""
    with pytest.raises(UserError, match="SLURM does not answer"):
        ask()
