"""The cache of what devices need: what is damaged there is told, made anew, and left by nobody."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetfm import files
from edgetfm.errors import DeviceError
from edgetfm.runtime.devices import DEVICES, devices_named, install
from edgetfm.runtime.remote import emulated, store, web

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="programs are made as Linux has them")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, on a machine without other programs than those of `program`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return store.cache()


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], None]:
    """program(name, script): a program of this machine."""

    def make(name: str, script: str) -> None:
        _program(tmp_path / "bin" / name, script)

    return make


def _program(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    file.chmod(0o755)


def _emulators() -> Path:
    """The emulators' folder as it is when they were brought; they run nothing."""
    folder = emulated._qemu_folder()
    for name in ("qemu-x86_64-static", "qemu-aarch64-static"):
        _program(folder / name, "exit 7")
    store.write_hashes(folder)
    return folder


def _filled(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("as it was")
    store.write_hashes(folder)


@pytest.mark.parametrize("hashes", [b"", b"{", b"\xff", b"[]", None])
def test_hashes_that_cannot_be_read_are_damage_and_the_folder_is_made_anew(
    cache: Path, hashes: bytes | None
) -> None:
    folder = store.make(cache / "thing", _filled, store.is_intact)
    kept = folder / "hashes.json"
    kept.unlink() if hashes is None else kept.write_bytes(hashes)
    with pytest.raises(DeviceError, match=r"doctor --install arm64$"):
        store.check_hashes(folder, "arm64")
    store.make(cache / "thing", _filled, store.is_intact)
    store.check_hashes(folder, "arm64")
    assert [p.name for p in cache.iterdir()] == ["thing"]


def test_what_is_whole_is_not_made_again_and_what_is_brought_must_be(cache: Path) -> None:
    folder = store.make(cache / "thing", _filled, store.is_intact)
    inode = (folder / "deep").stat().st_ino
    store.make(cache / "thing", _filled, store.is_intact)
    assert (folder / "deep").stat().st_ino == inode
    (folder / "deep" / "file").write_text("changed")
    with pytest.raises(DeviceError, match="not whole"):
        store.make(cache / "thing", lambda _: None, store.is_intact)
    assert (folder / "deep" / "file").read_text() == "changed"


@LINUX
def test_a_killed_installation_leaves_nothing_that_the_next_does_not_remove(cache: Path) -> None:
    killed = (
        "import os, signal\nfrom pathlib import Path\nfrom edgetfm.runtime.remote import store\n"
        "store.make(store.cache() / 'thing', lambda _: os.kill(os.getpid(), signal.SIGKILL),"
        " store.is_intact)"
    )
    done = subprocess.run([sys.executable, "-c", killed], check=False)
    assert done.returncode == -signal.SIGKILL
    assert files.left_beside(cache / "thing", "partial")
    store.make(cache / "thing", _filled, store.is_intact)
    assert [p.name for p in cache.iterdir()] == ["thing"]


@LINUX
def test_emulators_that_are_damaged_are_missing_or_say_what_mends_them(cache: Path) -> None:
    if (said := DEVICES["x86-avx2"].missing()) is not None and said.startswith("Linux on"):
        pytest.skip(f"emulation needs {said}")
    folder = _emulators()
    devices_named("x86-avx2,cpu")
    (folder / "qemu-aarch64-static").write_text("another")
    with pytest.raises(DeviceError, match="edgetfm doctor --install x86-avx2"):
        devices_named("x86-avx2,cpu")
    _emulators()
    (folder / "qemu-x86_64-static").chmod(0o644)
    assert "doctor --install x86-avx2" in str(DEVICES["x86-avx2"].missing())
    _emulators()
    (folder / "hashes.json").unlink()
    assert "doctor --install x86-avx2" in str(DEVICES["x86-avx2"].missing())
    emulated._arm_folder().mkdir()
    store.write_hashes(emulated._arm_folder())
    assert "an ARM system" in str(DEVICES["arm64"].missing())


def test_an_environment_without_its_python_is_missing() -> None:
    python = store.python_environment("openvino")
    python.parent.mkdir(parents=True)
    (python.parents[1] / "ready").touch()
    assert "doctor --install openvino" in str(DEVICES["openvino"].missing())


@LINUX
def test_a_runner_that_does_not_start_is_its_devices_fault(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("no program")
    for command in (tmp_path / "python", tmp_path / "none"):
        with pytest.raises(DeviceError, match=f"{command} does not start"):
            emulated.run([str(command)], tmp_path)


@LINUX
def test_npm_that_makes_nothing_brings_no_device(
    cache: Path, program: Callable[[str, str], None]
) -> None:
    program("node", "exit 0")
    program("npm", "exit 0")
    store.node_environment("onnxruntime-web").mkdir(parents=True)
    assert "onnxruntime-web" in str(DEVICES["web-wasm"].missing())
    with pytest.raises(DeviceError, match="web-wasm: what was brought is not whole"):
        install("web-wasm")
    made = "node_modules/onnxruntime-web"
    program("npm", f"mkdir -p {made}; echo '{{}}' > {made}/package.json")
    said: list[str] = []
    assert install("web-wasm,cpu", lambda what, *_: said.append(what)) == ["web-wasm", "cpu"]
    assert said == ["bringing what web-wasm needs"]
    assert [p.name for p in cache.iterdir()] == [store.node_environment("onnxruntime-web").name]


@LINUX
def test_node_names_its_error_and_not_its_version(
    tmp_path: Path, program: Callable[[str, str], None]
) -> None:
    said = (
        "file:///runner.mjs:9\n\nError [ERR_MODULE_NOT_FOUND]: no 'a'\n    at b\n\nNode.js v20.1.0"
    )
    program("node", f'cat >&2 <<"END"\n{said}\nEND\nexit 1')
    with pytest.raises(DeviceError, match=r"Node ended with 1: Error \[ERR_MODULE_NOT_FOUND\]"):
        web.in_node(tmp_path)
