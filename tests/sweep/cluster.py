"""A real SLURM on this machine: one controller, two nodes with two stand-in GPUs each. Needs root, slurm-wlm and munge."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONFIGURATION = """\
ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0,defer_batch
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
SlurmdParameters=config_overrides
KillWait=5
MinJobAge=300
MaxArraySize={largest_array}
InactiveLimit=0
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=60 State=UP
PartitionName=held Nodes=n[1-2] MaxTime=60 State=DOWN
"""


class Cluster:
    """Starts SLURM in `folder`; `environment` is what its clients need, `more` comes behind its configuration."""

    def __init__(self, folder: Path, largest_array: int = 1001, more: str = "") -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("munge", "state", "spool-n1", "spool-n2"):
            (folder / name).mkdir(parents=True)
        for path in (folder, folder / "munge"):
            path.chmod(0o755)
        for device in ("/dev/fakegpu0", "/dev/fakegpu1"):
            if not Path(device).exists():
                subprocess.run(["mknod", device, "c", "1", "3"], check=True)
        host = socket.gethostname()
        text = CONFIGURATION.format(host=host, folder=folder, largest_array=largest_array, ports=_free_ports(3))
        (folder / "slurm.conf").write_text(text + more)
        if self._version() > (22, 5):  # newer ones do without cgroups only if told, older ones do not know the word
            (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        (folder / "gres.conf").write_text("Name=gpu File=/dev/fakegpu[0-1]\n")
        key = folder / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    @staticmethod
    def missing() -> str | None:
        """Why no cluster can be had here."""
        absent = [name for name in PROGRAMS if _where(name) is None]
        if absent:
            return f"no {', '.join(absent)} (Debian: slurm-wlm, munge)"
        return None if os.geteuid() == 0 else "a cluster on one machine needs root"

    def _version(self) -> tuple[int, int]:
        """Year and month of the release: `slurm-wlm 22.05.8`."""
        year, month = self.run("sbatch", "-V").split()[-1].split(".")[:2]
        return int(year), int(month)

    def start(self) -> None:
        """Returns when both nodes are idle."""
        munge = self.folder / "munge"
        files = [f"--{name}={munge / name.split('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        self._start("munged", "--foreground", "--force", f"--key-file={munge}/key", *files)
        self._until(lambda: (munge / "socket").exists(), "munged")
        self.start_controller()
        for node in ("n1", "n2"):
            self.start_node(node)
        self._until(lambda: self.run("sinfo", "-h", "-p", "main", "-o", "%t").split() == ["idle"], "the nodes")

    def start_controller(self) -> None:
        """Start the daemon that all others and the clients ask."""
        self._start("slurmctld", "-D")

    def start_node(self, node: str) -> None:
        """Start one node's daemon."""
        self._start("slurmd", "-D", "-N", node, name=node)

    def kill(self, name: str) -> None:
        """Kill a daemon (munged, slurmctld) or the daemon of a node (n1)."""
        process = self._processes.pop(name)
        process.kill()
        process.wait(timeout=20)

    def run(self, *command: str) -> str:
        """Output of a client's command."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, env={**os.environ, **self.environment}
        )
        return done.stdout

    def stop(self) -> None:
        """End all jobs and daemons."""
        self.run("scancel", "--signal=KILL", "--full", "-u", "root")
        self.run("scancel", "-u", "root")
        for name in reversed(list(self._processes)):
            self.kill(name)

    def _start(self, program: str, *arguments: str, name: str | None = None) -> None:
        found = _where(program)
        assert found is not None, self.missing()
        with (self.folder / f"{name or program}.out").open("ab") as out:
            self._processes[name or program] = subprocess.Popen(
                [found, *arguments], env={**os.environ, **self.environment}, stdout=out, stderr=out
            )

    def _until(self, ready, what: str, patience_s: float = 60) -> None:
        until = time.monotonic() + patience_s
        while not ready():
            if time.monotonic() > until:
                raise RuntimeError(f"{what} did not come up; logs in {self.folder}")
            time.sleep(0.2)


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _where(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))


if __name__ == "__main__":
    cluster = Cluster(Path(sys.argv[1]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # otherwise its daemons would be left behind
    cluster.start()
    print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}", flush=True)
    try:
        time.sleep(1e9)
    finally:
        cluster.stop()
