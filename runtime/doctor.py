"""What this machine can do with edgetfm, and the line that adds what it lacks."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

from edgetfm.runtime.devices import DEVICES
from edgetfm.runtime.machine import cpu_features, cpu_model, usable_cpus

Check = dict[str, Any]
"""{"name", "ok", "found", "do"}: `do` is the next step where `ok` is false, else None."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "export": ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "safetensors"),
    "train": ("torch", "safetensors", "scikit-learn", "accelerate"),
    "vision": ("pillow",),
    "audio": ("soundfile", "soxr"),
    "data": ("pyarrow",),
    "eval": ("sacrebleu", "pycocotools", "scikit-learn"),
    "report": ("matplotlib",),
    "optimum": ("optimum", "requests"),
    "peft": ("peft",),
    "gguf": ("gguf", "accelerate"),
}
"""The optional parts and what each needs; a test holds it against pyproject.toml. The runtimes,
`cpu` and `gpu`, are judged by what they provide."""

OLDEST_PYTHON = (3, 11)


def examine() -> list[Check]:
    """Every check of this machine, a row each; nothing is raised or changed."""
    return [
        _python(),
        _runtime(),
        *(_extra(name, needs) for name, needs in EXTRAS.items()),
        *(_device(name) for name in DEVICES),
        _cpu(),
        _temporary_files(),
    ]


def _check(name: str, ok: bool, found: str, do: str | None = None) -> Check:
    return {"name": name, "ok": ok, "found": found, "do": None if ok else do}


def _python() -> Check:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return _check(
        "python",
        sys.version_info[:2] >= OLDEST_PYTHON,
        platform.python_version(),
        f"use Python {oldest} or newer",
    )


def _runtime() -> Check:
    """Exactly one distribution may provide the module onnxruntime.

    Several overwrite each other's files, and pip says nothing of it.
    """
    names = sorted(set(packages_distributions().get("onnxruntime", ())))
    found = ", ".join(f"{name} {version(name)}" for name in names) or "none"
    if len(names) > 1:
        do = f"pip uninstall {' '.join(names)}, then install one: pip install 'edgetfm[cpu]'"
    else:
        do = "pip install 'edgetfm[cpu]'"
    return _check("onnxruntime", len(names) == 1, found, do)


def _extra(name: str, needs: tuple[str, ...]) -> Check:
    versions = {package: _version(package) for package in needs}
    missing = [package for package, found in versions.items() if found is None]
    found = ", ".join(f"{package} {v}" for package, v in versions.items() if v is not None)
    said = f"{found or 'nothing'}" + (f"; missing {', '.join(missing)}" if missing else "")
    return _check(f"extra {name}", not missing, said, f"pip install 'edgetfm[{name}]'")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device(name: str) -> Check:
    row = DEVICES[name]
    missing = row.missing()
    said = "ready" if missing is None else "not ready"
    where = "" if row.reach == "this process" else f" by {row.reach}"
    return _check(
        f"device {name}",
        missing is None,
        f"{said}: {row.what}, {row.proves}{where}",
        f"needs {missing}",
    )


def _cpu() -> Check:
    features = cpu_features()
    fast = features is None or any("vnni" in f or "dotprod" in f for f in features)
    listed = "not listed by this system" if features is None else ", ".join(features) or "none"
    return _check(
        "cpu",
        True,
        f"{cpu_model()}, {usable_cpus()} usable, features: {listed}"
        + ("" if fast else "; int8 has no dot product here and gains less"),
    )


def _temporary_files() -> Check:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    return _check(
        "temporary files",
        writable and free > 1e9,
        f"{folder}, {free / 1e9:.1f} GB free" + ("" if writable else ", not writable"),
        "set TMPDIR to a writable folder with at least 1 GB free",
    )
