"""One virtual environment a requirement file, made on first use and kept in the cache."""

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
    """The Python of the environment that holds exactly the pins of envs/NAME.txt."""
    requirements = ENVS / f"{name}.txt"
    # The interpreter's version is part of the key: a venv does not survive an upgrade of it.
    key = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{key}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "ready"
    if ready.exists():
        return python
    print(f"making the environment {folder.name} (minutes, once)", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "-qq", "-r", str(requirements)]
    subprocess.run(install, check=True, stdout=sys.stderr)
    ready.touch()
    return python
