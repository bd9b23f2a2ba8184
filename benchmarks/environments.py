"""Environments of other people's programs, made on first use and kept in the cache.

One virtual environment a requirement file, and one node_modules a folder with a package.json.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ENVS = Path(__file__).with_name("envs")


def cache_folder() -> Path:
    """Where environments and logs are kept between runs."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "edgetfm" / "bench"


def environment(name: str) -> Path:
    """The Python of the environment that holds exactly the pins of envs/NAME.txt, and no others."""
    requirements = ENVS / f"{name}.txt"
    # The interpreter's version is part of the key: a venv does not survive an upgrade of it.
    folder = _folder(name, requirements.read_bytes() + sys.version.encode())
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if _is_ready(folder):
        return python
    venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "-qq", "--no-deps", "-r", str(requirements)]
    _run(pip, folder)
    return python


def node_environment(name: str) -> Path:
    """The folder in which Node finds exactly the packages of envs/NAME/package-lock.json.

    Their install scripts are not run. FileNotFoundError without Node's npm.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm, which comes with Node.js, is not installed")
    files = [ENVS / name / file for file in ("package.json", "package-lock.json")]
    folder = _folder(name, b"".join(file.read_bytes() for file in files))
    if _is_ready(folder):
        return folder
    folder.mkdir(parents=True)
    for file in files:
        shutil.copy(file, folder)
    _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder)
    return folder


def _folder(name: str, content: bytes) -> Path:
    """Where what is made of `content` is kept."""
    return cache_folder() / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"


def _is_ready(folder: Path) -> bool:
    """Whether it was made to its end; what is there of one that was not is removed."""
    if (folder / "ready").exists():
        return True
    print(f"making the environment {folder.name} (minutes, once)", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=folder)
    (folder / "ready").touch()
