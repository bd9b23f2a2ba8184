"""The CPU, through onnxruntime's own kernels."""

from __future__ import annotations

from edgetfm.errors import MissingExtra
from edgetfm.runtime._ort import ort
from edgetfm.runtime.devices._device import Device


def _missing() -> str | None:
    try:
        ort()
    except MissingExtra as error:
        return str(error)
    return None


DEVICE = Device(
    name="cpu",
    what="this machine's CPU",
    provider="CPUExecutionProvider",
    extra="cpu",
    missing=_missing,
)
