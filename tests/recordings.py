"""Brings five recordings of read speech (LibriVox, public domain), without root.

`python tests/recordings.py` takes the Debian package pocketsphinx-testdata from the system's own
sources, if it is the one whose hash stands here, and unpacks it into the cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "pocketsphinx-testdata"
SHA256 = "eaeb7a01d54f20b799d1a81ef110ec544b2cb47ea006614078220737a33019f0"
INSIDE = Path("usr/share/pocketsphinx/test/data/librivox")


def find() -> list[Path]:
    """The recordings in the cache, [] before they were brought."""
    return sorted((_cache() / INSIDE).glob("*.wav"))


def bring() -> str:
    """Where the recordings are, or why there are none, in a line."""
    if not find():
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                return f"no recordings: they come as a Debian package, and there is no {tool} here"
        with tempfile.TemporaryDirectory() as place:
            _run("apt-get", "download", PACKAGE, folder=place)
            found = list(Path(place).glob("*.deb"))
            if not found or hashlib.sha256(found[0].read_bytes()).hexdigest() != SHA256:
                return f"no recordings: apt has no {PACKAGE} with the hash that is known"
            _run("dpkg-deb", "-x", str(found[0]), "unpacked", folder=place)
            _cache().parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(Path(place) / "unpacked", _cache(), dirs_exist_ok=True)
    return str(_cache() / INSIDE)


def _run(*command: str, folder: str) -> None:
    subprocess.run(command, cwd=folder, capture_output=True, check=False)


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "edgetfm" / "recordings" / SHA256[:12]


if __name__ == "__main__":
    sys.stdout.write(f"{bring()}\n")
