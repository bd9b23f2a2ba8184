"""Apple's CPUs, GPUs and Neural Engine, through Core ML on this machine."""

from __future__ import annotations

from edgetfm.runtime.devices._device import Device, provided

DEVICE = Device(
    name="coreml",
    what="Apple's Core ML",
    provider="CoreMLExecutionProvider",
    extra="cpu",
    missing=provided("CoreMLExecutionProvider", "macOS, where pip's onnxruntime has it"),
    target="arm64",
)
