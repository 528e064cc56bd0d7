"""A server on this machine that speaks the Hugging Face Hub's protocol, as far as files need it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMITS = ("a" * 40, "b" * 40)


@dataclass
class Repository:
    """Files of each commit, and the commit of each branch or tag."""

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    gated: bool = False


@dataclass
class Hub:
    """What the server has, and what it was asked for."""

    address: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # to lie about a file's size
    status: int = 200  # of every answer, if it is another

    def add(self, name: str, files: dict[str, bytes], **more: object) -> None:
        """A repository with one commit."""
        self.repositories[name] = Repository({COMMITS[0]: files}, {"main": COMMITS[0]}, **more)


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A server until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            of_api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
            of_file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            match = of_api or of_file
            if match is None:  # nothing that a file needs
                self.answer(404)
                return
            hub.requests.append(f"{self.command} {path}")
            if hub.status != 200:
                self.answer(hub.status)
                return
            there = hub.repositories.get(match[1])
            if there is None:
                self.answer(401)  # the Hub does not tell strangers what there is
                return
            revision = match[2] or "main"
            commit = there.refs.get(revision, revision)
            if commit not in there.commits:
                self.answer(404, X_Error_Code="RevisionNotFound")
                return
            files = there.commits[commit]
            if of_api:
                listed = [
                    {"rfilename": name, "size": hub.sizes.get(name, len(content))}
                    for name, content in files.items()
                ]
                told = {"id": match[1], "sha": commit, "siblings": listed}
                self.answer(200, json.dumps(told).encode(), Content_Type="application/json")
                return
            if there.gated and self.headers.get("Authorization") != "Bearer a-token":
                self.answer(403, X_Error_Code="GatedRepo")
                return
            if match[3] not in files:
                self.answer(404, X_Error_Code="EntryNotFound")
                return
            content = files[match[3]]
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self.answer(200, content, X_Repo_Commit=commit, ETag=etag)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
