"""Qualcomm's Hexagon NPU, in the simulator that comes with its compiler."""

from __future__ import annotations

from dataclasses import replace

from edgetfm.runtime.devices._device import Device
from edgetfm.runtime.remote import environment

ARCHITECTURES = {"68": "30", "73": "43", "75": "57", "79": "69"}
"""Of the NPU -> the number of a chip that has it; the simulator wants both. 75 is of 2023's."""

DEVICE = Device(
    name="htp",
    what="Qualcomm Hexagon NPUs, architecture 75 (htp:68, htp:73, htp:79 are others)",
    provider="QNN",
    extra="cpu",
    missing=environment.missing("htp", "qnn"),
    options={
        "backend_type": "htp",
        "htp_arch": "75",
        "soc_model": ARCHITECTURES["75"],
        # The steps to and from float at the graph's ends are the NPU's too, not the CPU's.
        "offload_graph_io_quantization": "0",
    },
    target="htp",
    proves="emulated",
    reach="simulator",
    answer=environment.answer("qnn"),
    module="onnxruntime_qnn",
    bring=environment.bring("qnn"),
    rows=1,
    fixed=True,
)


def of_architecture(number: str) -> Device | None:
    """The device of one architecture, None if there is no such."""
    if number not in ARCHITECTURES:
        return None
    options = {**DEVICE.options, "htp_arch": number, "soc_model": ARCHITECTURES[number]}
    return replace(DEVICE, name=f"htp:{number}", options=options)
