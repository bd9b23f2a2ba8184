"""A phone for tests: an `adb` that stands in, whose phone is a folder of this machine."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

ADB = """#!{python}
import os, shutil, subprocess, sys
root, words = {root!r}, sys.argv[1:]
if words[:1] == ["-s"]:
    assert words[1] == "PHONE", words
    words = words[2:]
def at(path):
    return path if path.startswith("/usr") else root + path
if words[0] == "devices":
    print("List of devices attached\\nPHONE\\tdevice\\nLOCKED\\tunauthorized")
elif words[0] == "push":
    if os.path.isdir(words[1]):
        shutil.copytree(words[1], os.path.join(at(words[2]), os.path.basename(words[1])),
                        dirs_exist_ok=True)
    else:
        shutil.copy(words[1], at(words[2]))
elif words[0] == "pull":
    shutil.copy(at(words[1]), words[2])
elif words[0] == "shell":
    line = " ".join(words[1:]).replace("/data/local/tmp", root + "/data/local/tmp")
    sys.exit(subprocess.run(["sh", "-c", line]).returncode)
"""


def attach_phone(folder: Path, monkeypatch: pytest.MonkeyPatch, python: str) -> Path:
    """Where the phone PHONE keeps its files from now on; `python` is the command of its Python."""
    root = folder / "phone"
    (root / "data" / "local" / "tmp").mkdir(parents=True)
    program = folder / "bin" / "adb"
    program.parent.mkdir()
    program.write_text(ADB.format(python=sys.executable, root=str(root)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setenv("EDGETFM_ADB_PYTHON", python)
    return root
