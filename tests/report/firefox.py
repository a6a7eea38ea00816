"""A page in Debian's Firefox, over WebDriver BiDi, which Firefox speaks itself: Debian has no geckodriver."""

import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

PROGRAM = "firefox-esr"
SECONDS = 60
"""To start, and for each answer."""
PREFERENCES = {
    "browser.aboutwelcome.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.connectivity-service.enabled": False,
    "remote.active-protocols": 1,
}


class Firefox:
    """One tab."""

    def __init__(self, connection: websocket.WebSocket) -> None:
        self._connection, self._numbers = connection, itertools.count(1)
        self.complaints: list[str] = []
        self.ask("session.new", {"capabilities": {}})
        self.ask("session.subscribe", {"events": ["log.entryAdded"]})
        self._tab = self.ask("browsingContext.getTree", {})["contexts"][0]["context"]

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        """A command's answer; what the console says in the meantime is kept."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            said = json.loads(self._connection.recv())
            if said.get("method") == "log.entryAdded" and said["params"]["level"] in ("error", "warn"):
                self.complaints.append(said["params"]["text"])
            elif said.get("id") == number:
                assert said["type"] == "success", said
                return said["result"]

    def open(self, url: str, *, width: int = 1280, height: int = 1000) -> None:
        """Show it, once it is loaded."""
        viewport = {"width": width, "height": height}
        self.ask("browsingContext.setViewport", {"context": self._tab, "viewport": viewport})
        self.ask("browsingContext.navigate", {"context": self._tab, "url": "about:blank", "wait": "complete"})
        self.ask("browsingContext.navigate", {"context": self._tab, "url": url, "wait": "complete"})

    def run(self, script: str) -> Any:
        """What an expression gives."""
        what = {"expression": f"JSON.stringify({script})", "target": {"context": self._tab}, "awaitPromise": False}
        found = self.ask("script.evaluate", what)
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))


@contextmanager
def firefox(folder: Path) -> Iterator[Firefox]:
    """A browser with a new profile in `folder`; where there is none, the test is skipped (or fails, if CI says so)."""
    if shutil.which(PROGRAM) is None:
        reason = f"{PROGRAM} not found; install Debian's package of this name"
        if os.environ.get("ANCHORFLOW_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
    (folder / "user.js").write_text("\n".join(lines))
    command = [PROGRAM, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)})
    try:
        url = _address(folder / "log", process)
        connection = websocket.create_connection(f"{url}/session", timeout=SECONDS, suppress_origin=True)
        try:
            yield Firefox(connection)
        finally:
            connection.close()
    finally:
        process.terminate()
        process.wait(SECONDS)


def _address(log: Path, process: "subprocess.Popen[bytes]") -> str:
    """Where Firefox listens, which it says when it does."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        for line in log.read_text(errors="replace").splitlines():
            if "WebDriver BiDi listening on" in line:
                return line.split()[-1]
        time.sleep(0.1)
    pytest.fail(f"Firefox does not listen: {log.read_text(errors='replace')[-500:]}")
