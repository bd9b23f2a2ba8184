"""Other people's programs: called as they are, in environments of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.interop.rows import Case

HERE = Path(__file__).parent

Bundles = Callable[[Case, str], Path]
"""(case, precision) -> the folder of a bundle."""


def available(make: Callable[[], Path]) -> Path:
    """What `make` makes. In CI it has to; elsewhere a machine may be offline, or without Node."""
    try:
        return make()
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"not to be had here: {error}")


def run(command: list[Any], *, given: Any = None, folder: Path | None = None) -> str:
    """What a program prints; its complaints are in the failure."""
    done = subprocess.run(
        list(map(str, command)),
        input=json.dumps(given),
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


BOUNDS = {
    "fp32": 1e-5,
    "fp16": 2e-3,
    "int8": 0.05,
    "int8-weight": 0.05,
    "int8-static": 0.05,
    "int4": 0.05,
}
"""The largest difference over the largest value, or over 1 if that is larger.

Versions of ONNX Runtime sum in other orders, and its settings differ: in int8 that flips a
rounding here and there (edgetfm.proof.DEVICE_BOUNDS is as wide).
"""


def distance(got: Any, wanted: Any) -> float:
    """The largest difference, as BOUNDS measures it; of other shapes infinite."""
    one, other = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if one.shape != other.shape:
        return np.inf
    return float(np.abs(one - other).max() / max(1.0, np.abs(other).max()))
