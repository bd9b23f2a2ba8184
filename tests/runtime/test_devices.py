"""Every device is a file that is named as the device is called."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from edgetfm.errors import DeviceError, MissingExtra
from edgetfm.quantize.targets import TARGETS
from edgetfm.runtime import devices
from edgetfm.runtime.devices import DEVICES, cuda, device_named, devices_named, ready_device
from edgetfm.runtime.remote import store


def test_devices_are_the_files() -> None:
    assert devices.__file__ is not None
    files = {p.stem for p in Path(devices.__file__).parent.glob("[a-z]*.py")}
    assert {name.replace("-", "_") for name in DEVICES} == files
    assert all(row.name == name for name, row in DEVICES.items())


def test_a_row_says_what_it_is_and_what_a_run_there_proves() -> None:
    for row in DEVICES.values():
        assert row.what
        assert row.target in ("", *TARGETS)
        assert (row.proves == "static") == (row.predict is not None)
        assert row.is_here == (row.reach == "this process")
        assert not (row.reach in ("qemu", "simulator") and row.proves == "measured")


def test_what_is_missing_comes_with_the_line_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In an empty cache, without a program to be found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("x86-avx2", "x86-sse", "arm64", "arm64-a53", "htp", "openvino"):
        said = DEVICES[name].missing()
        assert said is not None
        assert f"edgetfm doctor --install {name}" in said or "Linux on x86-64" in said
    assert "apt-get install nodejs" in str(DEVICES["web-wasm"].missing())
    assert "apt-get install chromium" in str(DEVICES["web-webgpu"].missing())
    assert "apt-get install adb" in str(DEVICES["adb"].missing())
    with pytest.raises(DeviceError, match=r"'x86-avx2' cannot be used here(?s:.*)'openvino'"):
        devices_named("x86-avx2,cpu,openvino")


def test_whatever_pip_brings_is_pinned_by_its_hash() -> None:
    for file in store.PINS.glob("*.txt"):
        lines = file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        for line in (line for line in lines if not line.startswith("#")):
            assert re.fullmatch(r"[\w.-]+==[\w.]+( +--hash=sha256:[0-9a-f]{64})+", line), line


def test_a_device_elsewhere_is_no_place_for_a_session() -> None:
    with pytest.raises(DeviceError, match=r"reached through qemu.*edgetfm verify --device arm64"):
        ready_device("arm64")


def test_kinds_stand_behind_a_colon() -> None:
    assert device_named("htp:73").options["htp_arch"] == "73"
    assert device_named("adb:ABC").name == "adb:ABC"
    for unknown in ("htp:99", "cpu:1", "adb:"):
        with pytest.raises(DeviceError, match="unknown device"):
            device_named(unknown)


def test_the_cpu_is_always_ready() -> None:
    assert ready_device("cpu").provider == "CPUExecutionProvider"


@pytest.mark.parametrize("name", [name for name, row in DEVICES.items() if row.is_here])
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
