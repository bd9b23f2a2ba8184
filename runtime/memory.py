"""How much memory a piece of work takes, in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import edgetfm
from edgetfm.errors import EdgetfmError

EVERY_SECONDS = 0.001
WORTH_COLLECTING = 800_000_000
"""Bytes of anonymous memory from which the half second of a collection beside PyTorch pays."""

_CHILD = """
import importlib, sys
module = importlib.import_module(sys.argv[1])
for name in sys.argv[3:]:
    importlib.import_module(name)
print("ready", flush=True)
sys.stdin.readline()
module.child_main(sys.argv[2])
"""


def peak_memory(module: str, request: dict[str, Any], *imports: str) -> int | None:
    """The peak of anonymous memory in bytes of `module.child_main(request)` in a fresh process.

    What the process had after importing `module` and `imports` is taken off. Mapped files do not
    count: the system can drop them at any time. The process is looked at every millisecond.
    None where the system has no /proc/PID/status.
    """
    if anonymous_memory(os.getpid()) is None:
        return None
    home = str(Path(edgetfm.__file__).parent.parent)
    paths = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH")) if p)
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, module, json.dumps(request), *imports],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    ) as child:
        ready = child.stdout.readline() if child.stdout else ""
        before = peak = anonymous_memory(child.pid) or 0
        if ready and child.stdin:
            child.stdin.write("\n")
            child.stdin.close()
        while child.poll() is None:
            peak = max(peak, anonymous_memory(child.pid) or 0)
            time.sleep(EVERY_SECONDS)
        if child.returncode != 0:
            said = child.stderr.read() if child.stderr else ""
            raise EdgetfmError(f"the process whose memory is measured failed:\n{said}")
    return peak - before


def anonymous_memory(pid: int) -> int | None:
    """RssAnon of a process in bytes; None if it has ended or the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None


def return_freed(*, cycles: bool = True, worth: int = WORTH_COLLECTING) -> None:
    """Give memory that was freed back to the system, where the C library can (glibc).

    Otherwise a large model's freed weights, or what lies between those of a session, stay with the
    process beside those that come next. cycles: whether what refers to itself is looked for first,
    as modules may; sessions and arrays do not. worth: how many bytes a process must have for that.
    """
    if cycles and (anonymous_memory(os.getpid()) or worth) >= worth:
        gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
