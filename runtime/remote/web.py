"""onnxruntime-web: in Node, and in a page of a headless Chromium that a local server gives it."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from edgetfm.errors import DeviceError
from edgetfm.files import inside
from edgetfm.runtime.remote import store

HERE = Path(__file__).parent
LIMIT_S = 900
"""Seconds after which a page is given up."""

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_TYPES = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm"}
_GPU_FLAGS = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


def _browser() -> str | None:
    return next((found for name in _BROWSERS if (found := shutil.which(name))), None)


def missing(name: str, *, browser: bool) -> Callable[[], str | None]:
    """What `Device.missing` says of a device on the web."""

    def say() -> str | None:
        if browser and _browser() is None:
            return "a browser: apt-get install chromium"
        if not browser and shutil.which("node") is None:
            return "Node.js: apt-get install nodejs npm"
        if not store.has_node_environment("onnxruntime-web"):
            return f"onnxruntime-web: edgetfm doctor --install {name}"
        return None

    return say


def bring() -> None:
    """onnxruntime-web, from npm. The browser and Node are the system's to install."""
    store.bring_node_environment("onnxruntime-web")


def in_node(folder: Path) -> None:
    """Run the job in a folder in Node."""
    modules = store.node_environment("onnxruntime-web")
    command = ["node", str(HERE / "runner.mjs"), str(folder), str(modules)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"Node did not end within {LIMIT_S} s") from error
    except OSError as error:
        raise store.not_started(command[0], error) from error
    if not (folder / "result.json").is_file():
        raise DeviceError(f"Node ended with {done.returncode}: {_reason(done.stderr)[:300]}")


def _reason(said: str) -> str:
    """The line of Node's last words that names the error: a trace and Node's version follow it."""
    lines = said.strip().splitlines() or ["it said nothing"]
    return next((line for line in lines if re.match(r"\w*Error\b", line)), lines[-1])


def in_browser(folder: Path) -> None:
    """Run the job in a folder in a page of a headless browser, its GPU drawn by the CPU."""
    browser = _browser()
    if browser is None:
        raise DeviceError("there is no browser")
    done = threading.Event()
    handler = functools.partial(_Handler, folder, done)
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        # It may still write there while it ends.
        tempfile.TemporaryDirectory(prefix="edgetfm-", ignore_cleanup_errors=True) as profile,
    ):
        address = f"http://127.0.0.1:{server.server_port}/page.html"
        page = _opened(browser, f"--user-data-dir={profile}", address)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            _wait(done, page)
        finally:
            page.terminate()
            try:
                page.wait(20)
            except subprocess.TimeoutExpired:
                page.kill()
            server.shutdown()
    failed = folder / "failed.txt"
    if failed.is_file():
        raise DeviceError(f"the page failed: {failed.read_text(encoding='utf-8')[:300]}")


def _opened(browser: str, *words: str) -> subprocess.Popen[bytes]:
    """A headless browser, started."""
    flags = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run")
    try:
        return subprocess.Popen(
            [browser, *flags, *_GPU_FLAGS, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise store.not_started(browser, error) from error


def _wait(done: threading.Event, page: subprocess.Popen[bytes]) -> None:
    """For the page's last word. DeviceError if its time is up, or the browser is gone before."""
    until = time.monotonic() + LIMIT_S
    while not done.wait(1):
        if page.poll() is not None and not done.is_set():
            raise DeviceError(f"the browser ended with {page.returncode} before its page did")
        if time.monotonic() > until:
            raise DeviceError(f"the page did not end within {LIMIT_S} s")


class _Handler(BaseHTTPRequestHandler):
    """Gives a page its files, with the headers that let it share memory between threads."""

    def __init__(self, folder: Path, done: threading.Event, *arguments: object) -> None:
        self._folder, self._done = folder, done
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """A file of the page, of the packages or of the job."""
        file = self._file()
        if file is None or not file.is_file():
            self._say(404)
            return
        with file.open("rb") as stream:
            self._say(200, _TYPES.get(file.suffix, "application/octet-stream"), file.stat().st_size)
            shutil.copyfileobj(stream, self.wfile)

    def do_PUT(self) -> None:
        """A file of the result, or the word that there is no more."""
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = self.path.removeprefix("/folder/")
        if name in ("answers.bin", "result.json", "failed.txt"):
            (self._folder / name).write_bytes(data)
        self._say(200)
        if self.path == "/done":
            self._done.set()

    def _file(self) -> Path | None:
        path = self.path.partition("?")[0].lstrip("/")
        if path in ("page.html", "runner.mjs"):
            return HERE / path
        top, _, rest = path.partition("/")
        modules = store.node_environment("onnxruntime-web") / "node_modules"
        root = {"folder": self._folder, "modules": modules}.get(top)
        return None if root is None or not rest else inside(root, rest)

    def _say(self, code: int, kind: str = "text/plain", size: int = 0) -> None:
        self.send_response(code)
        for key, value in (
            ("Content-Type", kind),
            ("Content-Length", str(size)),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Embedder-Policy", "require-corp"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""
