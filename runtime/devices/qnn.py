"""A Hexagon NPU of this machine, through Qualcomm's provider."""

from __future__ import annotations

from edgetfm.runtime.devices._device import Device, provided

DEVICE = Device(
    name="qnn",
    what="a Hexagon NPU of this machine",
    provider="QNNExecutionProvider",
    extra="cpu",
    missing=provided(
        "QNNExecutionProvider", "a Snapdragon machine and pip install onnxruntime-qnn"
    ),
    target="htp",
    options={"backend_type": "htp"},
    rows=1,
    fixed=True,
)
