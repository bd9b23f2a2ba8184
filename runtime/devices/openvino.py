"""Intel's CPUs through OpenVINO, which comes with an onnxruntime of its own."""

from __future__ import annotations

from edgetfm.runtime.devices._device import Device
from edgetfm.runtime.remote import environment

DEVICE = Device(
    name="openvino",
    what="CPUs through OpenVINO",
    provider="OpenVINOExecutionProvider",
    extra="cpu",
    missing=environment.missing("openvino", "openvino"),
    options={"device_type": "CPU"},
    threads_option="num_of_threads",
    target="x86-vnni",
    reach="its own environment",
    answer=environment.answer("openvino"),
    bring=environment.bring("openvino"),
)
