"""What devices need and pip, npm and apt bring, kept in the cache under a name that says what.

A folder is made beside its place and renamed when it is whole; one that no longer is, is made anew.
Of programs and trees the hash of every file is kept, and checked before they run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

from edgetfm.errors import DeviceError
from edgetfm.folders import NewFolder

PINS = Path(__file__).with_name("pins")
_HASHES = "hashes.json"


def cache() -> Path:
    """Where it is all kept: edgetfm/devices in the user's cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "edgetfm" / "devices"


def keyed(name: str, content: str | bytes) -> Path:
    """Where what is made of this content is kept."""
    data = content.encode() if isinstance(content, str) else content
    return cache() / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"


def pins(name: str) -> str:
    """The packages of an environment, a pin a line."""
    return (PINS / f"{name}.txt").read_text(encoding="utf-8")


def make(folder: Path, fill: Callable[[Path], None], whole: Callable[[Path], bool]) -> Path:
    """The folder, filled now unless it is whole; a damaged one is replaced.

    Raises DeviceError if filling fails or leaves less, OutputError where it cannot be written.
    """
    if whole(folder):
        return folder
    with NewFolder(folder) as made:
        fill(made.path)
        if not whole(made.path):
            raise DeviceError(f"what was brought is not whole: {folder} was not made of it")
        if not whole(folder):  # else somebody was faster
            made.commit(replace=True)
    return folder


def output_of(*command: str | Path, folder: Path | None = None) -> str:
    """What a program of the system prints. DeviceError with its last line if it fails."""
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise DeviceError(f"there is no {words[0]} on this machine")
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise not_started(words[0], error) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise DeviceError(f"{' '.join(words[:3])} failed: {said[-1] if said else 'no message'}")
    return done.stdout


def not_started(program: str, error: OSError) -> DeviceError:
    """Of a program that is there and cannot be run: no right to, or no program."""
    return DeviceError(f"{program} does not start: {error.strerror}")


def python_environment(name: str) -> Path:
    """Where the Python is that has the pins of NAME.txt and nothing else; it may not be there."""
    # The interpreter's version is part of the key: a venv does not survive an upgrade of it.
    return keyed(name, pins(name) + sys.version) / "bin" / "python"


def has_python_environment(name: str) -> bool:
    """Whether it was made to its end and still has its Python."""
    python = python_environment(name)
    return os.access(python, os.X_OK) and (python.parents[1] / "ready").exists()


def bring_python_environment(name: str) -> None:
    """Make it. Its scripts hold its path, so it is no renamed one: a file `ready` comes last."""
    if has_python_environment(name):
        return
    folder = python_environment(name).parents[1]
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    output_of(
        *(folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps"),
        *("--require-hashes", "--only-binary=:all:", "-r", PINS / f"{name}.txt"),
    )
    (folder / "ready").touch()


def node_environment(name: str) -> Path:
    """The folder in which Node finds the packages of NAME/package-lock.json, which has hashes."""
    return keyed(name, (PINS / name / "package-lock.json").read_bytes())


def has_node_environment(name: str) -> bool:
    """Whether the package that it is named after is in it."""
    return _has_package(node_environment(name), name)


def _has_package(folder: Path, name: str) -> bool:
    return (folder / "node_modules" / name / "package.json").is_file()


def bring_node_environment(name: str) -> None:
    """Make it; no install script is run."""

    def fill(folder: Path) -> None:
        for file in ("package.json", "package-lock.json"):
            shutil.copy(PINS / name / file, folder)
        quiet = ("--no-audit", "--no-fund", "--loglevel=error")
        output_of("npm", "ci", "--ignore-scripts", *quiet, folder=folder)

    make(node_environment(name), fill, lambda folder: _has_package(folder, name))


def write_hashes(folder: Path) -> None:
    """Keep the hash of every file in a folder: the last that is written there."""
    (folder / _HASHES).write_text(json.dumps(_hashes(folder)), encoding="utf-8")


def is_finished(folder: Path) -> bool:
    """Whether a folder was filled to its last file. Its others are not looked at."""
    return (folder / _HASHES).is_file()


def is_intact(folder: Path) -> bool:
    """Whether the folder is there and every file in it is what it was when it was unpacked."""
    try:
        return bool(json.loads((folder / _HASHES).read_text(encoding="utf-8")) == _hashes(folder))
    except (OSError, ValueError):  # no hashes, or none that can be read
        return False


def check_hashes(folder: Path, name: str) -> None:
    """DeviceError if a file is not what it was; bringing the device `name` again mends it."""
    if not is_intact(folder):
        raise DeviceError(
            f"{folder} was changed since it was unpacked: make it anew with "
            f"edgetfm doctor --install {name}"
        )


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != _HASHES
    }


def debian_packages(architecture: str, names: Sequence[str], into: Path) -> None:
    """Download Debian packages of an architecture, and all they depend on, without installing.

    apt checks them by the signed lists of the system's own sources. It keeps lists of its own for
    this: those of the system know other architectures only where somebody added them.
    """
    lists, status = into / "lists", into / "status"
    (lists / "partial").mkdir(parents=True)
    (into / "cache" / "archives" / "partial").mkdir(parents=True)
    status.touch()
    options = {
        "Dir::State::lists": lists,
        "Dir::State::status": status,
        "Dir::Cache": into / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
    }
    apt = ["apt-get", *(f"-o{key}={value}" for key, value in options.items())]
    output_of(*apt, "update")
    output_of(*apt, "install", "-y", "--download-only", "--no-install-recommends", *names)


def unpack(package: Path, into: Path) -> None:
    """The files of a Debian package, below a folder."""
    output_of("dpkg-deb", "-x", package, into)
