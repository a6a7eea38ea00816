"""A W&B server in miniature: it takes what W&B's own client sends, and remembers it. Nothing leaves the machine."""

import base64
import gzip
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

KEY = "k" * 40


@dataclass
class Run:
    """What the server holds of a run: the rows of its history, and how each attempt ended."""

    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    logs: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    preempting: bool = False


class FakeWandb(ThreadingHTTPServer):
    """`runs` by id, `artifacts` as (type, name). It takes no key but KEY, and nothing of the runs in `refused`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.runs: dict[str, Run] = {}
        self.artifacts: list[tuple[str, str]] = []
        self.views: dict[str, dict[str, Any]] = {}
        self.refused: set[str] = set()
        self.faults: list[BaseException | None] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news; a fault of this server is, or its client would try for minutes."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            self.faults.append(error)

    def environment(self, key: str = KEY) -> dict[str, str]:
        """For a command that is to use this server."""
        kept = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
        return {**kept, **self.known(key)}

    def known(self, key: str = KEY) -> dict[str, str]:
        """Of that, what names this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": key}


@contextmanager
def fake_wandb() -> Iterator[FakeWandb]:
    """A server for a block."""
    with FakeWandb() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
        assert not server.faults, server.faults


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
        if self.path.endswith("/file_stream"):
            self._stream(self.path.split("/")[4], json.loads(body))
            self._reply(200, {})
        elif not self.path.endswith("/graphql"):  # the client's reports on itself
            self._reply(200, {})
        elif KEY not in self._sent_key():
            self._reply(401, {"errors": [{"message": "invalid api key"}]})
        else:
            asked = json.loads(body)
            variables = asked.get("variables") or {}
            if variables.get("name") in self.server.refused:
                self._reply(403, {"errors": [{"message": "permission denied"}]})
            else:
                self._reply(200, {"data": self._answer(asked["query"], variables)})

    def _sent_key(self) -> str:
        return base64.b64decode(self.headers.get("Authorization", "").partition(" ")[2]).decode()

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
            if file == "wandb-history.jsonl":
                run.history[part["offset"] :] = map(json.loads, part["content"])
            elif file == "wandb-summary.json":
                run.summary = json.loads(part["content"][-1])
            elif file == "output.log":
                run.logs[part["offset"] :] = part["content"]
        run.files |= set(sent.get("uploaded", ()))
        run.preempting |= sent.get("preempting", False)
        if "exitcode" in sent:
            run.ends.append("finished" if sent["exitcode"] == 0 else "preempted" if run.preempting else "failed")
            run.preempting = False

    def _answer(self, query: str, given: Mapping[str, Any]) -> dict[str, Any]:
        file = {"id": "F", "name": "", "displayName": "", "uploadUrl": f"{self.server.url}/upload", "uploadHeaders": []}
        if "upsertBucket" in query:
            run = self.server.runs.setdefault(given["name"], Run())
            run.fields |= {key: value for key, value in given.items() if value is not None}
            run.config = json.loads(given["config"]) if given.get("config") else run.config
            return {"upsertBucket": {"bucket": self._bucket(given["name"], run), "inserted": True}}
        if "RunResumeStatus" in query:
            known = self.server.runs.get(given["name"])
            bucket = self._bucket(given["name"], known) if known else None
            return {"model": {"id": "P", "name": "p", "entity": {"id": "E", "name": "me"}, "bucket": bucket}}
        if "createRunFiles" in query:
            files = [{**file, "name": name} for name in given["files"]]
            return {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}}
        if "createArtifact(" in query:
            asked = given["input"]
            self.server.artifacts.append((asked["artifactTypeName"], asked["artifactCollectionName"]))
            return {"createArtifact": {"artifact": {"id": "A", "state": "PENDING", "artifactSequence": {"id": "S"}}}}
        for name in ("createArtifactManifest", "updateArtifactManifest"):
            if f"{name}(" in query:
                return {name: {"artifactManifest": {"id": "M", "file": file}}}
        if "createArtifactFiles(" in query:
            nodes = [{**file, "storagePath": "", "artifact": {"id": "A"}} for _ in given["input"]["artifactFiles"]]
            return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
        if "useArtifact(" in query:
            return {"useArtifact": {"artifact": {"id": "A", "digest": ""}}}
        if "commitArtifact(" in query:
            return {"commitArtifact": {"artifact": {"id": "A", "digest": ""}}}
        if "upsertView(" in query:
            return {"upsertView": self._view(given)}
        if "allViews(" in query:
            name = given.get("viewName")
            views = [
                v
                for v in self.server.views.values()
                if v["type"] == given.get("viewType", "runs") and name in (None, v["name"])
            ]
            page = {"hasNextPage": False, "endCursor": None}
            return {"project": {"allViews": {"edges": [{"node": v, "cursor": ""} for v in views], "pageInfo": page}}}
        projects = dict.fromkeys(run.fields["project"] for run in self.server.runs.values())
        if "ProjectInternalId" in query:
            return {"project": {"id": "P", "internalId": "1"} if given["projectName"] in projects else None}
        if "GetProjects" in query:
            node = {"id": "P", "entityName": "me", "createdAt": "", "isBenchmark": False, "user": None}
            page = {"hasNextPage": False, "endCursor": None}
            return {"models": {"edges": [{"node": {**node, "name": name}} for name in projects], "pageInfo": page}}
        viewer = {"id": "V", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": viewer, "serverInfo": None, "project": None}

    def _view(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A saved view, or a report. One with an id takes the place of the one that has it."""
        new = given.get("id") is None
        id_ = f"view{len(self.server.views)}" if new else given["id"]
        project = {"id": "P", "name": given["projectName"], "entityName": given["entityName"]}
        view = {"id": id_, "project": project, **{key: value for key, value in given.items() if key != "id"}}
        self.server.views[id_] = view
        return {"view": view, "inserted": new}

    def _bucket(self, name: str, run: Run) -> dict[str, Any]:
        return {
            "id": "B",
            "name": name,
            "displayName": run.fields.get("displayName"),
            "project": {"id": "P", "name": run.fields["project"], "entity": {"id": "E", "name": "me"}},
            "config": json.dumps(run.config),
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": "[]",
            "tags": [],
            "wandbConfig": json.dumps({"t": 1}),
        }
