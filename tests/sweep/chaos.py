"""Twelve cells on a real SLURM among seeded faults: after one relaunch everything is as if nothing had happened.

`python -m tests.sweep.chaos 100` (`make chaos SEEDS=100`) tries the seeds below 100 and prints the tally;
`... 5 8` tries those from 5 to 7.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from anchorflow.sweep import slurm
from tests.conftest import write_dataset
from tests.launching import command, launch
from tests.sweep.cluster import Cluster
from tests.sweep.slurm_runs import given, nobody_works, results, until

PREEMPTING = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=urgent Nodes=n[1-2] PriorityTier=2 MaxTime=60 State=UP
"""
"""What the cluster needs besides: a partition whose jobs take the place of others."""
SWEEP = (
    *("model.layers=2", "experiment=saliency", "experiment.n_queries=30", "batch_tokens=1", "seed=range(0,12)"),
    *("tracking=offline", "launcher.packs=2"),
)
CELLS = 12
FAULTS = ("kill worker", "kill pack", "cancel", "requeue", "node", "controller", "disk", "launch", "preempt", "time")
OVER = ("completed", "failed", "cancelled")
PATIENCE_S = 300
"""Requeued jobs, and those of a node that came back, wait for some time."""


class Chaos:
    """The sweep in `folder`, and what happens to it; `happened` says what did."""

    def __init__(self, cluster: Cluster, folder: Path, data: Path, seed: int) -> None:
        self.cluster, self.folder, self.data = cluster, folder, data
        self.outputs = folder / "outputs"
        self.random = random.Random(seed)
        self.happened: list[str] = []
        self.submitted_alive: list[str] = []

    def run(self) -> None:
        """Submit the sweep, disturb it, and launch it once more when SLURM has no job of it left."""
        self._submit(twice=self.random.random() < 0.5)
        for fault in self.random.sample(FAULTS, self.random.randint(2, 4)):
            time.sleep(self.random.uniform(0, 4))
            self._disturb(fault)
        until(self._settled, PATIENCE_S)
        done = launch(*self._arguments, cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def check(self, undisturbed: Path) -> None:
        """Every number and record is that of the sweep in `undisturbed`, once; nothing was begun twice."""
        found, expected = results(self.outputs), results(undisturbed)
        assert found.keys() == expected.keys()
        for name, result in expected.items():
            differ = [key for key, value in result.items() if found[name].get(key) != value]
            assert not differ, f"{name} differs in {differ}"
        for run in self._runs():
            lines = (run / "records.jsonl").read_bytes().splitlines()
            twin = undisturbed / run.relative_to(self.outputs)
            assert sorted(lines) == sorted((twin / "records.jsonl").read_bytes().splitlines()), f"records of {run}"
            tracked = {path.name.rsplit("-", 1)[1] for path in (run / "wandb").glob("offline-run-*")}
            assert tracked == {found[str(run.relative_to(self.outputs))]["identity"]}, f"W&B's runs of {run}"
        assert len({result["identity"] for result in found.values()}) == CELLS
        assert not self.submitted_alive, f"submitted while alive: {self.submitted_alive}"
        for log in self.outputs.glob("sweeps/*/jobs/*.out"):
            assert "another process" not in log.read_text(errors="replace"), log

    @property
    def _arguments(self) -> tuple[str, ...]:
        return given(self.data, *SWEEP)

    def _submit(self, twice: bool = False) -> None:
        """Launch it without waiting, perhaps from two terminals; what lives before and afterwards must not be among it."""
        before, plans = slurm.alive() or {}, set(self._plans())
        living = {name: job for name, job in self._given().items() if job in before and self._state(name) not in OVER}
        typed = command(*self._arguments, "sweep.wait=false")
        processes = [
            subprocess.Popen(typed, cwd=self.folder, stderr=subprocess.PIPE, text=True) for _ in range(1 + twice)
        ]
        for process in processes:
            _, said = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, said
        after = slurm.alive() or {}
        new = Counter(name for plan in set(self._plans()) - plans for name in _cells(plan))
        self.submitted_alive += [name for name, job in living.items() if name in new and job in after]
        self.submitted_alive += [name for name, times in new.items() if times > 1]

    def _disturb(self, fault: str) -> None:
        """Let it happen, if there is something left that it can happen to."""
        if fault == "launch":
            self.happened.append(fault)
            self._submit()
            return
        try:
            said = until(self._at_work, 60)
        except AssertionError:  # everything is over, or waits
            return
        self.happened.append(fault)
        job, pid = str(said["job_id"]), int(said["pid"])
        try:
            match fault:
                case "kill worker":
                    os.kill(pid, 9)
                case "kill pack":
                    os.kill(int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]), 9)
                case "disk":  # a limit on the size of its files stands in for it
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4000, 4000))
        except (ProcessLookupError, FileNotFoundError):  # it has just ended
            return
        match fault:
            case "cancel":
                self.cluster.run("scancel", job)
            case "requeue":
                self.cluster.run("scontrol", "requeue", job)
            case "node":
                node = self.random.choice(("n1", "n2"))
                self.cluster.kill(node)
                self.cluster.start_node(node)
            case "controller":
                self.cluster.kill("slurmctld")
                self.cluster.start_controller()
                until(lambda: slurm.alive() is not None)
            case "preempt":
                self.cluster.run("sbatch", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
            case "time":
                self.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")

    def _at_work(self) -> dict[str, Any] | None:
        """The status of a run that says it is running, on a job that SLURM knows."""
        living = slurm.alive() or {}
        if not living:
            raise AssertionError("nothing is left")
        found = [said for said in self._statuses().values() if said["state"] == "running" and said["job_id"] in living]
        return self.random.choice(found) if found else None

    def _settled(self) -> bool:
        """Whether no job is left. One that SLURM lets wait, or holds because its node was away, may begin."""
        for job in [job for job, reason in (slurm.alive() or {}).items() if reason]:
            self.cluster.run("scontrol", "release", job)
            self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")
        time.sleep(1)
        return nobody_works()

    def _runs(self) -> Iterator[Path]:
        return (path.parent for path in self.outputs.glob("saliency/tiny/local/seed*/status.json"))

    def _statuses(self) -> dict[str, dict[str, Any]]:
        return {run.name: json.loads((run / "status.json").read_text()) for run in self._runs()}

    def _state(self, name: str) -> str | None:
        return self._statuses().get(name.split("/")[-1], {}).get("state")

    def _plans(self) -> list[Path]:
        return sorted(self.outputs.glob("sweeps/*/plan.json"))

    def _given(self) -> dict[str, str]:
        """The job that each cell was given to, the last one."""
        return {name: job for plan in self._plans() for name, job in _cells(plan).items()}


def _cells(plan: Path) -> Mapping[str, str]:
    """The job of each cell that was submitted."""
    packs = json.loads(plan.read_text())["packs"]
    return {name: pack["job_id"] for pack in packs if pack["job_id"] for name in pack["cells"]}


def leave_alone(folder: Path, data: Path) -> Path:
    """The sweep without any fault; its outputs."""
    done = launch(*given(data, *SWEEP, where="local"), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "outputs"


def main(seeds: Sequence[int]) -> int:
    """Try the seeds one after another; the number of those that went wrong, whose folders are kept."""
    wrong, times = 0, Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        data = write_dataset(Path(temporary) / "data", train=40, test=600)
        undisturbed = leave_alone(Path(temporary), data)
        cluster = Cluster(Path(temporary) / "slurm", more=PREEMPTING)
        cluster.start()
        os.environ.update(cluster.environment)
        try:
            for seed in seeds:
                began = time.monotonic()
                chaos = Chaos(cluster, Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-")), data, seed)
                try:
                    chaos.run()
                    chaos.check(undisturbed)
                    outcome = "as if nothing had happened"
                except AssertionError as error:
                    wrong += 1
                    outcome = f"WRONG, see {chaos.folder}: {error}"
                times.update(chaos.happened)
                print(
                    f"seed {seed}, {time.monotonic() - began:.0f} s: {', '.join(chaos.happened)}: {outcome}", flush=True
                )
        finally:
            cluster.stop()
    faults = ", ".join(f"{fault} {n}" for fault, n in sorted(times.items()))
    print(f"{len(seeds)} seeds, {wrong} wrong; faults: {faults}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(range(*map(int, sys.argv[1:]))))
