"""Every device is a file that is named as the device is called."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgetfm.errors import DeviceError, MissingExtra
from edgetfm.runtime import devices
from edgetfm.runtime.devices import DEVICES, cuda, device_named, ready_device


def test_devices_are_the_files() -> None:
    assert devices.__file__ is not None
    files = {p.stem for p in Path(devices.__file__).parent.glob("[a-z]*.py")}
    assert set(DEVICES) == files
    assert all(row.name == name for name, row in DEVICES.items())


def test_the_cpu_is_always_ready() -> None:
    assert ready_device("cpu").provider == "CPUExecutionProvider"


@pytest.mark.parametrize("name", DEVICES)
def test_without_onnxruntime_an_extra_is_missing_and_no_device(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=rf"edgetfm\[{DEVICES[name].extra}\]") as error:
        ready_device(name)
    assert error.value.exit_code == 2


def test_unknown_devices_are_device_errors() -> None:
    with pytest.raises(DeviceError, match="known are cpu, cuda"):
        device_named("npu")


class _Runtime:
    """What an onnxruntime for CUDA says of itself."""

    def get_available_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("count", "missing"),
    [(None, "the NVIDIA driver"), (0, "an NVIDIA GPU"), (1, None)],
)
def test_cuda_says_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch, count: int | None, missing: str | None
) -> None:
    monkeypatch.setattr(cuda, "ort", _Runtime)
    monkeypatch.setattr(cuda, "_gpu_count", lambda: count)
    said = cuda.DEVICE.missing()
    assert (said is None) if missing is None else missing in str(said)
