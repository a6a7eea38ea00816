"""A W&B server in miniature: takes what W&B's own client sends, and remembers it. Nothing leaves the machine."""

import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

KEY = "k" * 40


@dataclass
class Run:
    """What the server holds of a run. `history` are its rows, `states` what it was marked as, in order."""

    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    exit_codes: list[int] = field(default_factory=list)


class FakeWandb(ThreadingHTTPServer):
    """`runs` by id, `artifacts` by name; `broken` makes every answer an error (as does a key that is not KEY)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, Run] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.log = []
        self.broken = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


@contextmanager
def fake_wandb() -> Iterator[FakeWandb]:
    """A server for a block."""
    with FakeWandb() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeWandb

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._reply(200, {})

    def do_PUT(self) -> None:
        self._body()
        self._reply(200, {})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.startswith("/sdk/"):  # the client's own telemetry
            return self._reply(200, {})
        self.server.log.append((self.path, body))
        if self.server.broken:
            return self._reply(400, {"errors": [{"message": "broken"}]})
        if self.path.endswith("/file_stream"):
            self._stream(self.path.split("/")[4], json.loads(body))
            return self._reply(200, {})
        asked = json.loads(body)
        return self._reply(200, {"data": self._answer(asked["query"], asked.get("variables") or {})})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, code: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, name: str, sent: Mapping[str, Any]) -> None:
        run = self.server.runs[name]
        for file, part in sent.get("files", {}).items():
            lines = [json.loads(line) for line in part["content"]]
            if file == "wandb-history.jsonl":
                run.history[part["offset"] :] = lines
            elif file == "wandb-summary.json":
                run.summary = lines[-1]
        run.files |= set(sent.get("uploaded", ()))
        if "exitcode" in sent:
            run.exit_codes.append(sent["exitcode"])

    def _answer(self, query: str, given: Mapping[str, Any]) -> dict[str, Any]:
        viewer = {"id": "V", "entity": "me", "username": "me", "name": "me", "email": "", "admin": False, "flags": "{}",
                  "teams": {"edges": []}}  # fmt: skip
        if "upsertBucket" in query:
            run = self.server.runs.setdefault(given["name"], Run())
            run.fields |= {key: value for key, value in given.items() if value is not None and key != "config"}
            run.config = json.loads(given["config"]) if given.get("config") else run.config
            return {"upsertBucket": {"bucket": self._bucket(given["name"], run), "inserted": True}}
        if "RunResumeStatus" in query:
            run = self.server.runs.get(given["name"])
            bucket = self._bucket(given["name"], run) if run else None
            return {"model": {"id": "P", "name": "p", "entity": {"id": "E", "name": "me"}, "bucket": bucket}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.server.url}/upload"} for name in given["files"]]
            return {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}}
        if "createArtifact(" in query:
            asked = given["input"]
            self.server.artifacts.append({key: asked.get(key) for key in ("artifactCollectionName", "artifactTypeName", "aliases", "metadata", "runName")})
            artifact = {"id": "A", "state": "PENDING", "artifactSequence": {"id": "S", "latestArtifact": None}}
            return {"createArtifact": {"artifact": artifact}}
        if "anifest(" in query:
            name = "createArtifactManifest" if "createArtifactManifest" in query else "updateArtifactManifest"
            file = {"id": "F", "name": "m", "displayName": "m", "uploadUrl": f"{self.server.url}/upload", "uploadHeaders": []}
            return {name: {"artifactManifest": {"id": "M", "file": file}}}
        if "createArtifactFiles(" in query:
            edges = [{"node": {"id": "F", "name": f["name"], "displayName": f["name"], "uploadUrl": f"{self.server.url}/upload", "uploadHeaders": [], "storagePath": "s", "artifact": {"id": "A"}, "uploadMultipartUrls": None}} for f in given["input"]["artifactFiles"]]
            return {"createArtifactFiles": {"files": {"edges": edges}}}
        if "commitArtifact(" in query:
            return {"commitArtifact": {"artifact": {"id": "A", "digest": "d"}}}
        self.server.log.append(("UNKNOWN", query.split("(")[0]))
        return {"viewer": viewer, "serverInfo": None, "project": None}

    def _bucket(self, name: str, run: Run) -> dict[str, Any]:
        return {
            "id": "B",
            "name": name,
            "displayName": run.fields.get("displayName"),
            "description": "",
            "sweepName": None,
            "project": {"id": "P", "name": run.fields["project"], "entity": {"id": "E", "name": "me"}},
            "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": "[]",
            "tags": run.fields.get("tags") or [],
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
