"""Which devices are asked what, and what becomes of a test whose device is not here."""

from __future__ import annotations

import os

import pytest

from edgetfm.runtime.devices import device_named

EMULATED = ("x86-avx2", "x86-sse", "arm64", "arm64-a53")
"""Other CPUs than this one."""

INT8 = ("cpu", *EMULATED, "web-wasm", "openvino")
"""Devices that take int8 with ranges found on the way, and free axes."""

INT4 = ("cpu", *EMULATED, "web-wasm")
"""Devices that take a decoder's weights in blocks of 4 bits, and its cache."""


def ready(*names: str) -> str:
    """The devices, with commas between; skipped with what they lack, which CI has to install."""
    lacking = {name: missing for name in names if (missing := device_named(name).missing())}
    if lacking:
        said = "; ".join(f"{name} needs {missing}" for name, missing in lacking.items())
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up(said)
    return ",".join(names)
