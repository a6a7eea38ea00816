"""What a dry run says of each cell, and what a sweep's end says of all."""

import json
from pathlib import Path

from anchorflow.runs import execute
from anchorflow.sweep import Launcher, plan
from anchorflow.sweep.ending import headline_metric, summary
from anchorflow.sweep.liveness import Jobs
from tests.sweep.test_plan import cells


def test_the_time_of_a_cell_follows_from_earlier_runs_of_its_kind(tmp_path: Path) -> None:
    given = ["model=tiny", "dataset=novel", "tracking=none", "device=cpu", "experiment.n_queries=4"]
    grid = [["experiment=classification", f"seed={seed}"] for seed in (1, 2)] + [["experiment=saliency"]]
    made = cells(tmp_path, *([*given, *overrides] for overrides in grid))
    made[0].folder.mkdir(parents=True)
    result = execute(made[0].config, made[0].folder)
    assert result is not None
    result["timing"]["queries_per_s"] = 0.5
    (made[0].folder / "result.json").write_text(json.dumps(result))
    odd = made[0].folder.with_name("seed9-odd")
    odd.mkdir()
    (odd / "result.json").write_text("{}")

    def listed(launcher: Launcher) -> list[str]:
        return plan.listing(plan.make(made, launcher, only_failed=False, jobs=Jobs()), launcher)

    head, done, later, unknown, *whole = listed(Launcher(mode="slurm", mem_gb=2))
    assert head.split() == ["cell", "state", "GPU", "memory", "time", "given"]
    assert done.split()[1:] == ["done"]
    assert later.split()[1:] == ["to", "run", "0:08", "mem_gb", "2.0,", "timeout_min", "60"]
    assert unknown.split()[3] == "?"
    assert whole == [
        "in total: 2 cells to run, about 0:08 of computing",
        "the time of 1 cell is unknown: no run of its kind is complete",
        "",
    ]
    said = summary([cell.folder for cell in made], "outputs", 65)
    assert said[0].split() == ["experiment", "model", "dataset", "seeds", "found"]
    assert said[1].split()[:5] == ["classification", "tiny", "novel", "1", "accuracy"]
    assert said[-1] == "took 1:05; next: anchorflow report outputs (tables, figures, and a page)"
    assert summary([made[1].folder], "outputs", 1) == ["took 0:01"]
    assert headline_metric(result) == result["metrics"]["accuracy"]
    assert headline_metric({**result, "metrics": {}}) is None
