"""A local Hugging Face hub that supports pushing and downloading a captioner."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories in memory: ``branches[repository][branch]`` is a commit, ``commits[commit]`` its files.

    ``asked`` lists the requests, as ``METHOD /path``. Only requests with ``token`` may write.
    """

    token = "hf_secret"

    def __init__(self) -> None:
        self.branches: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.created: dict[str, dict[str, Any]] = {}
        self.messages: list[str] = []
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                path = unquote(urlsplit(self.path).path)
                hub.asked.append(f"{self.command} {path}")
                hub.answer(self, path, body)

            do_POST = do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """Return the current files of a repository."""
        return self.commits[self.branches[repository][revision]]

    def answer(self, to: BaseHTTPRequestHandler, path: str, body: bytes) -> None:
        parts = path.strip("/").split("/")
        if to.command == "POST" and to.headers.get("Authorization") != f"Bearer {self.token}":
            send(to, {"error": "Invalid username or password."}, status=401)
        elif path == "/api/repos/create":
            self._create(to, json.loads(body))
        elif path == "/api/validate-yaml":
            send(to, {"errors": [], "warnings": []})
        elif parts[0] == "api":
            self._api(to, "/".join(parts[2:4]), parts[4:], body)
        else:  # ORG/NAME/resolve/REVISION/FILE
            self._resolve(to, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _create(self, to: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        repository = f"{asked.get('organization') or 'someone'}/{asked['name']}"
        known = repository in self.branches
        if not known:
            self.created[repository] = asked
            self.branches[repository] = {"main": self._commit({".gitattributes": b""})}
        send(to, {"url": f"{self.url}/{repository}"}, status=409 if known else 200)

    def _commit(self, files: dict[str, bytes]) -> str:
        name = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[name] = files
        return name

    def _api(self, to: BaseHTTPRequestHandler, repository: str, rest: list[str], body: bytes) -> None:
        branches = self.branches.get(repository)
        if branches is None:
            send(to, {"error": "Repository not found"}, status=404, headers={"X-Error-Code": "RepoNotFound"})
            return
        verb, revision = (*rest, "revision", "main")[:2] if not rest else (rest[0], "/".join(rest[1:]) or "main")
        if verb == "branch":
            branches.setdefault(revision, branches["main"])
            send(to, {})
            return
        commit = branches.get(revision, revision)
        if commit not in self.commits:
            send(to, {"error": "Revision not found"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})
            return
        files = self.commits[commit]
        if verb == "revision":
            send(to, {"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in files]})
        elif verb == "tree":
            send(to, [{"type": "file", "path": n, "size": len(c), "oid": tag(c)} for n, c in files.items()])
        elif verb == "preupload":
            named = [file["path"] for file in json.loads(body)["files"]]
            send(to, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in named]})
        elif verb == "commit":
            new = dict(files)
            for line in body.decode().splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "header":
                    self.messages.append(value["summary"])
                elif entry["key"] == "file":
                    new[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "deletedFile":
                    del new[value["path"]]
            branches[revision] = self._commit(new)
            url = f"{self.url}/{repository}/commit/{branches[revision]}"
            send(to, {"commitUrl": url, "commitOid": branches[revision]})

    def _resolve(self, to: BaseHTTPRequestHandler, repository: str, revision: str, name: str) -> None:
        commit = self.branches[repository].get(revision, revision)
        content = self.commits[commit].get(name)
        if content is None:
            send(to, {"error": "Entry not found"}, status=404, headers={"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{tag(content)}"', "X-Repo-Commit": commit, "Content-Type": "application/octet-stream"}
        send(to, content, headers=headers)


def tag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def send(
    to: BaseHTTPRequestHandler, content: object, *, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    to.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {}), "Content-Length": len(data)}.items():
        to.send_header(name, str(value))
    to.end_headers()
    if to.command != "HEAD":
        to.wfile.write(data)
