"""Brings qemu-x86_64-static, which runs a program on another x86 CPU than this one, without root.

`python tests/emulated/qemu.py` takes the Debian package qemu-user-static from the system's own
sources, which apt checks by their signed hashes, and keeps the one program of it in the cache.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = "qemu-x86_64-static"
PACKAGE = "qemu-user-static"


class CannotBring(Exception):
    """Why there is no emulator, in a line."""


def find() -> Path | None:
    """The emulator that the system has, or the newest one in the cache that is whole."""
    if installed := shutil.which(PROGRAM):
        return Path(installed)
    kept = sorted(_cache().glob(f"*/{PROGRAM}"), key=lambda path: path.stat().st_mtime)
    return next((path for path in reversed(kept) if _whole(path)), None)


def bring() -> Path:
    """The emulator, taken into the cache if need be. Raises CannotBring."""
    if found := find():
        return found
    if platform.machine() != "x86_64":
        raise CannotBring(f"only x86-64 is emulated, and on x86-64: this is {platform.machine()}")
    for tool in ("apt-get", "apt-cache", "dpkg-deb", "tar"):
        if shutil.which(tool) is None:
            raise CannotBring(f"{PACKAGE} comes as a Debian package, and there is no {tool} here")
    listed = _output("apt-cache", "show", "--no-all-versions", PACKAGE)
    versions = [line.split()[1] for line in listed.splitlines() if line.startswith("Version:")]
    if not versions:
        raise CannotBring(f"apt knows no {PACKAGE}: apt-get update may help")
    folder = _cache() / versions[0].replace(":", "_")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        _output("apt-get", "download", f"{PACKAGE}={versions[0]}", folder=Path(place))
        (package,) = Path(place).glob("*.deb")
        _output("dpkg-deb", "--fsys-tarfile", str(package), folder=Path(place), into="files.tar")
        _output("tar", "-xf", "files.tar", f"./usr/bin/{PROGRAM}", folder=Path(place))
        program = folder / PROGRAM
        (Path(place) / "usr" / "bin" / PROGRAM).replace(program)
    _hash_file(program).write_text(_hash(program), encoding="ascii")
    return program


def _output(*command: str, folder: Path | None = None, into: str = "") -> str:
    with (folder / into if folder and into else Path(os.devnull)).open("wb") as file:
        done = subprocess.run(
            command,
            cwd=folder,
            stdout=file if into else subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
        )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise CannotBring(f"{' '.join(command[:2])} failed: {said[-1] if said else 'no message'}")
    return "" if into else done.stdout.decode(errors="replace")


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "edgetfm" / "qemu"


def _whole(program: Path) -> bool:
    """Whether the program is the one that was unpacked."""
    kept = _hash_file(program)
    return kept.is_file() and kept.read_text(encoding="ascii") == _hash(program)


def _hash_file(program: Path) -> Path:
    return program.with_suffix(".sha256")


def _hash(program: Path) -> str:
    return hashlib.sha256(program.read_bytes()).hexdigest()


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{bring()}\n")
    except CannotBring as reason:
        sys.stdout.write(f"no emulator, its tests are skipped: {reason}\n")
