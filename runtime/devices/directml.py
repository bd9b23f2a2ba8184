"""GPUs on Windows, through DirectML."""

from __future__ import annotations

from edgetfm.runtime.devices._device import Device, provided

DEVICE = Device(
    name="directml",
    what="GPUs on Windows",
    provider="DmlExecutionProvider",
    extra="cpu",
    missing=provided("DmlExecutionProvider", "Windows and pip install onnxruntime-directml"),
    target="cuda",
)
