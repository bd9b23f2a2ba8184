"""A phone over adb: bundle and runner are pushed, run there, and the result is pulled.

The phone needs a Python with numpy and onnxruntime that a shell may start, such as Termux's;
EDGETFM_ADB_PYTHON is the command for it. Its CPU is timed; the app in android_demo has the other
providers.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edgetfm.errors import DeviceError

RUNNER = Path(__file__).with_name("runner.py")
PLACE = "/data/local/tmp/edgetfm"
LIMIT_S = 1800
"""Seconds after which a command on the phone is given up."""


def _adb() -> str | None:
    return shutil.which("adb")


def serials() -> list[str]:
    """The phones that are attached and let us in."""
    said = _said(None, "devices")
    lines = (line.split() for line in said.splitlines()[1:])
    return [words[0] for words in lines if len(words) > 1 and words[1] == "device"]


def missing(serial: str | None) -> Callable[[], str | None]:
    """What `Device.missing` says of a phone, or of any where none is named."""

    def say() -> str | None:
        if _adb() is None:
            return "adb: apt-get install adb"
        try:
            found = serials()
        except DeviceError as error:
            return str(error)
        if serial is not None and serial not in found:
            return f"the phone {serial} (attached: {', '.join(found) or 'none'})"
        if not found:
            return "a phone that is attached with USB debugging on (adb devices lists none)"
        if serial is None and len(found) > 1:
            return f"to know which phone: adb:{', adb:'.join(found)}"
        python = shlex.split(_python())
        try:
            _said(serial, "shell", *python, "-c", shlex.quote("import numpy, onnxruntime"))
        except DeviceError:
            return (
                f"a Python with numpy and onnxruntime on the phone: '{_python()}' is none "
                "(EDGETFM_ADB_PYTHON names another)"
            )
        return None

    return say


def answer(serial: str | None) -> Callable[[Path], None]:
    """Runs jobs on the phone."""
    return partial(_answer, serial)


def _answer(serial: str | None, folder: Path) -> None:
    place = f"{PLACE}/{folder.name}"
    _said(serial, "shell", "mkdir", "-p", place)
    try:
        _said(serial, "push", str(folder), f"{PLACE}/")
        _said(serial, "push", str(RUNNER), f"{place}/runner.py")
        _said(serial, "shell", *shlex.split(_python()), f"{place}/runner.py", place)
        for name in ("result.json", "answers.bin"):
            _said(serial, "pull", f"{place}/{name}", str(folder / name))
    finally:
        _said(serial, "shell", "rm", "-rf", place)


def _python() -> str:
    return os.environ.get("EDGETFM_ADB_PYTHON", "python3")


def _said(serial: str | None, *words: str) -> str:
    """What adb says. DeviceError with its last line if it fails: it hands on the shell's code."""
    adb = _adb()
    if adb is None:
        raise DeviceError("there is no adb")
    command = [adb, *(() if serial is None else ("-s", serial)), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"adb {words[0]} did not end within {LIMIT_S} s") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["it said nothing"]
        raise DeviceError(f"adb {words[0]} failed: {lines[-1][:300]}")
    return done.stdout
