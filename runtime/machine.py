"""What this machine is, as far as it matters to a measurement."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")

FEATURES = {
    "sse4_1": "sse4_1",
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "asimddp": "neon_dotprod",
    "i8mm": "neon_i8mm",
    "sve": "sve",
}
"""Linux's name of a CPU flag -> ours, for those that decide how fast int8 and float run."""


def machine() -> dict[str, Any]:
    """CPU model, features and count, system, Python and onnxruntime version; JSON values."""
    return {
        "cpu": cpu_model(),
        "cpu_features": cpu_features(),
        "cpus": usable_cpus(),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "onnxruntime": runtime_version(),
    }


def runtime_version() -> str | None:
    """The version of the onnxruntime that is installed, of whichever build, None without one."""
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def usable_cpus() -> int:
    """How many CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """The CPU's name as the system has it."""
    info = _cpuinfo()
    return info.get("model name") or platform.processor() or platform.machine()


def cpu_features() -> list[str] | None:
    """The CPU's features of FEATURES; None where the system does not list them."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return [ours for flag, ours in FEATURES.items() if flag in flags] if flags else None


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first CPU; empty elsewhere."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
