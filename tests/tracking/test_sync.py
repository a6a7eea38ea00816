"""`anchorflow sync` with W&B's own client against a server in miniature: once each, in order, and no run stops another."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorflow import cli
from anchorflow.tracking import Names, Tracking, sync
from anchorflow.tracking.fragments import fragments
from tests.tracking.fake_wandb import FakeWandb, fake_wandb
from tests.tracking.recorded import CONFIG, CURVES, HISTORY, SETTINGS, content

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directories as jobs leave them: one that finished, one in two attempts, one that was killed, one without W&B."""
    folder = tmp_path_factory.mktemp("outputs")
    for name in ("finished", "resumed", "killed", "untracked"):
        (folder / name).mkdir()
        (folder / name / "status.json").write_text("{}")
    record(folder / "finished", "f" * 16)
    with (
        pytest.raises(SystemExit),
        Tracking(mode="offline").run(folder / "resumed", "a" * 16, CONFIG, names("resumed"), SETTINGS),
    ):
        raise SystemExit
    record(folder / "resumed", "a" * 16)
    record(folder / "killed", "b" * 16)
    (log,) = (folder / "killed" / "wandb").glob("offline-run-*/*.wandb")
    log.write_bytes(log.read_bytes()[:-200])
    return folder


@pytest.fixture
def outputs(recorded: Path, tmp_path: Path) -> Path:
    """A fresh copy at the place where it was recorded: W&B remembers where the files of an artifact lie."""
    kept = tmp_path / "kept"
    shutil.copytree(recorded, kept, symlinks=True)
    yield recorded
    shutil.rmtree(recorded)
    kept.rename(recorded)


@pytest.fixture
def server() -> Iterator[FakeWandb]:
    with fake_wandb() as server:
        yield server


def names(model: str) -> Names:
    return Names("saliency", model, "sst2", 42, counted="0a1b2c3d")


def record(folder: Path, identity: str) -> None:
    with Tracking(mode="offline").run(folder, identity, CONFIG, names(folder.name), SETTINGS) as tracker:
        tracker.log(content(folder))


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "anchorflow.cli", "sync", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert "Traceback" not in done.stderr
    return done


def curves(server: FakeWandb, identity: str) -> list[dict[str, float]]:
    rows = [{name: row[name] for name in CURVES if name in row} for row in server.runs[identity].history]
    return [row for row in rows if row]


def test_what_was_recorded_offline_is_uploaded_once(outputs: Path, server: FakeWandb) -> None:
    done = run(outputs, **server.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(done.stdout.splitlines()) == {
        f"not finished: {outputs}/killed (it is running, or was killed: run it again)",
        f"uploaded: {outputs}/finished {server.url}/me/anchorflow/runs/{'f' * 16}",
        f"uploaded: {outputs}/resumed {server.url}/me/anchorflow/runs/{'a' * 16}",
        "2 uploaded, 1 not finished, 1 without a result",
    }
    assert set(server.runs) == {"f" * 16, "a" * 16}
    assert server.runs["f" * 16].ends == ["finished"]
    assert server.runs["a" * 16].ends == ["preempted", "finished"]
    for identity in server.runs:
        assert curves(server, identity) == HISTORY
        assert server.runs[identity].summary["saliency/accuracy"] == 0.25
        assert server.runs[identity].fields["groupName"].startswith("saliency ")
    assert ("beta", "beta-finished-sst2-0a1b2c3d") in server.artifacts
    again = run(outputs, **server.environment())
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1] == "2 uploaded before, 1 not finished, 1 without a result"
    assert curves(server, "f" * 16) == HISTORY
    record(outputs / "killed", "b" * 16)  # started again: now there is something to upload
    later = run(outputs / "killed", **server.environment())
    assert later.stdout.splitlines()[-1] == "1 uploaded"
    assert curves(server, "b" * 16) == HISTORY


def test_a_dry_run_says_what_would_be_done_and_asks_nobody(outputs: Path) -> None:
    done = run("--dry-run", outputs / "resumed", outputs, WANDB_BASE_URL="http://127.0.0.1:9")
    assert done.returncode == 0
    assert set(done.stdout.splitlines()) == {
        f"not finished: {outputs}/killed (it is running, or was killed: run it again)",
        f"to upload: {outputs}/finished (1 recorded)",
        f"to upload: {outputs}/resumed (2 recorded)",
        "2 to upload, 1 not finished, 1 without a result",
    }
    assert not any(fragment.uploaded for fragment in fragments(outputs / "finished"))


def test_one_that_fails_does_not_stop_the_others(outputs: Path, server: FakeWandb) -> None:
    server.refused = {"f" * 16}
    done = run(outputs, **server.environment())
    assert done.returncode == 1
    (failed,) = [line for line in done.stdout.splitlines() if line.startswith("failed: ")]
    assert failed.startswith(f"failed: {outputs}/finished (")
    assert "permission denied" in failed
    assert "1 uploaded" in done.stdout
    assert set(server.runs) == {"a" * 16}
    server.refused = set()
    assert "1 uploaded, 1 uploaded before" in run(outputs, **server.environment()).stdout


def test_without_a_network_credentials_or_a_good_key_it_says_so_in_a_line(
    outputs: Path, server: FakeWandb, tmp_path: Path
) -> None:
    def complaint(**environment: str) -> str:
        done = run(outputs / "finished", **environment)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert not any(fragment.uploaded for fragment in fragments(outputs / "finished"))
        return line

    known = server.environment()
    nobody = "http://127.0.0.1:9"
    assert f"{nobody} cannot be reached" in complaint(**{**known, "WANDB_BASE_URL": nobody})
    refused = complaint(**server.environment(key="x" * 40))
    assert "W&B does not accept the credentials" in refused
    assert "invalid api key" in refused
    assert "has 3" in complaint(**server.environment(key="abc"))
    missing = {**known, "NETRC": str(tmp_path / "none")}
    del missing["WANDB_API_KEY"]
    assert complaint(**missing) == "error: there are no W&B credentials; run `wandb login`, or set WANDB_API_KEY."


def test_a_directory_that_has_moved_is_told_where_its_files_were(
    outputs: Path, server: FakeWandb, tmp_path: Path
) -> None:
    shutil.move(outputs / "finished", tmp_path / "moved")
    done = run(tmp_path / "moved", **server.environment())
    assert done.returncode == 1
    assert f"{outputs}/finished/" in done.stdout
    assert "create a link at its old path" in done.stdout
    (outputs / "finished").symlink_to(tmp_path / "moved")
    assert run(tmp_path / "moved", **server.environment()).returncode == 0


def test_a_copy_of_a_run_is_not_uploaded_a_second_time(outputs: Path, server: FakeWandb) -> None:
    shutil.copytree(outputs / "finished", outputs / "copy")
    done = run(outputs / "copy", outputs / "finished", **server.environment())
    assert f"the same: {outputs}/finished run as {outputs}/copy" in done.stdout
    again = run(outputs / "copy", outputs / "finished", **server.environment())
    assert again.stdout.splitlines()[-1] == "1 uploaded before, 1 the same"
    assert curves(server, "f" * 16) == HISTORY


def test_garbage_in_the_place_of_a_recording_is_not_uploaded(outputs: Path, server: FakeWandb) -> None:
    (log,) = (outputs / "finished" / "wandb").glob("offline-run-*/*.wandb")
    log.write_bytes(b"")
    (outputs / "resumed" / "wandb" / "offline-run-1-x").mkdir()
    (outputs / "resumed" / "wandb" / "offline-run-1-x" / "run-x.wandb").write_bytes(b"garbage" * 100)
    done = run(outputs, **server.environment())
    assert done.returncode == 0
    assert f"not finished: {outputs}/finished" in done.stdout
    assert set(server.runs) == {"a" * 16}


def test_paths_without_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sync", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: there is no run at or below {tmp_path}.\n"
    assert cli.main(["sync", str(tmp_path / "nowhere")]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


def test_uploads_go_on_together_but_not_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(12):
        (tmp_path / f"run{i:02}").mkdir()
        (tmp_path / f"run{i:02}" / "status.json").write_text("{}")
    lock, now, most = threading.Lock(), 0, 0

    def upload(run: sync.Run) -> sync.Run:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        return run.ends("failed" if run.folder.name == "run03" else "uploaded", "(because)")

    monkeypatch.setattr(sync, "plan", lambda folder: sync.Run(folder, "to upload", identity=folder.name))
    monkeypatch.setattr(sync, "upload", upload)
    monkeypatch.setattr(sync, "check_access", lambda: None)
    assert cli.main(["sync", str(tmp_path)]) == 1
    assert most == sync.AT_ONCE
    assert capsys.readouterr().out.splitlines()[-1] == "11 uploaded, 1 failed"


def test_help_loads_no_wandb() -> None:
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "anchorflow.cli", "sync", "--help"], capture_output=True, text=True
    )
    assert traced.returncode == 0
    imported = {line.rsplit("|", 1)[-1].strip() for line in traced.stderr.splitlines()}
    assert not imported & {"wandb", "torch", "hydra", "numpy"}
