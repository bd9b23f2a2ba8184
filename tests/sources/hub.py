"""A hub on this machine: it answers what the hub's client asks of one model, over real HTTP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One model, `name`, with the files of a folder, at the revisions `main` and `v1`.

    refuses: what it answers to everything, (status, error code). cut: files whose body ends half
    way, as when a connection drops. asked: the paths that were asked for.
    """

    name: str
    folder: Path
    endpoint: str = ""
    refuses: tuple[int, str] | None = None
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def files(self) -> dict[str, bytes]:
        found = sorted(f for f in self.folder.rglob("*") if f.is_file())
        return {f.relative_to(self.folder).as_posix(): f.read_bytes() for f in found}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at its endpoint, for as long as the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(path)
            if hub.refuses is not None:
                self.answer(hub.refuses[0], b"{}", {"X-Error-Code": hub.refuses[1]})
                return
            api = f"/api/models/{hub.name}/"
            resolve = f"/{hub.name}/resolve/"
            if path.startswith(f"{api}revision/"):
                revision = path.removeprefix(f"{api}revision/")
                if revision not in ("main", "v1", COMMIT):
                    self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                    return
                siblings = [{"rfilename": name} for name in hub.files()]
                self.json({"id": hub.name, "sha": COMMIT, "siblings": siblings})
            elif path.startswith(f"{api}tree/"):
                self.json([
                    {"type": "file", "path": name, "size": len(data), "oid": _blob(data)}
                    for name, data in hub.files().items()
                ])  # fmt: skip
            elif path.startswith(resolve):
                self.file(path.removeprefix(resolve).partition("/")[2])
            else:
                self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def file(self, name: str) -> None:
            data = hub.files().get(name)
            if data is None:
                self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
                return
            headers = {"ETag": f'"{_blob(data)}"', "X-Repo-Commit": COMMIT}
            start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
            kept = data[start : len(data) // 2] if name in hub.cut else data[start:]
            status = 206 if start else 200
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(status, kept, headers, length=len(data) - start)

        def json(self, value: object) -> None:
            self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def answer(
            self, status: int, body: bytes, headers: dict[str, str], length: int | None = None
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


def _blob(data: bytes) -> str:
    """The name that git has for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
