"""The devices by name, one file each."""

from __future__ import annotations

from edgetfm.errors import DeviceError, EdgetfmError, MissingExtra, listed
from edgetfm.progress import Progress, quiet
from edgetfm.runtime._ort import ort
from edgetfm.runtime.devices import (
    adb,
    arm64,
    arm64_a53,
    coreml,
    coreml_static,
    cpu,
    cuda,
    directml,
    htp,
    nnapi,
    openvino,
    qnn,
    web_wasm,
    web_webgpu,
    x86_avx2,
    x86_sse,
)
from edgetfm.runtime.devices._device import Device

DEVICES: dict[str, Device] = {
    file.DEVICE.name: file.DEVICE
    for file in (
        *(cpu, cuda, openvino, coreml, directml, qnn),
        *(x86_avx2, x86_sse, arm64, arm64_a53),
        *(htp, web_wasm, web_webgpu, adb),
        *(nnapi, coreml_static),
    )
}


def device_named(name: str) -> Device:
    """The device of this name; a DeviceError that lists them otherwise.

    Some have kinds behind a colon: `htp:73` is another NPU, `adb:SERIAL` one of several phones.
    """
    base, _, kind = name.partition(":")
    found = DEVICES.get(name) if not kind else None
    if base == "htp" and kind:
        found = htp.of_architecture(kind)
    if base == "adb" and kind:
        found = adb.of_serial(kind)
    if found is None:
        raise DeviceError(f"unknown device '{name}'; known are {', '.join(DEVICES)}")
    return found


def devices_named(text: str) -> list[Device]:
    """The devices named in 'cpu,arm64,htp', in order, all there; a DeviceError lists what is not.

    Raises MissingExtra where one needs an onnxruntime in this process and there is none.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    found, problems = [], [] if names else [_none_named()]
    for name in names:
        try:
            found.append(_ready(device_named(name)))
        except DeviceError as error:
            problems.append(str(error))
    if problems:
        raise DeviceError(listed(problems))
    return found


def _none_named() -> str:
    return f"no device is named; known are {', '.join(DEVICES)}"


def ready_device(name: str) -> Device:
    """The device of this name, ready for a session; a DeviceError says what is missing.

    MissingExtra where there is no onnxruntime at all: the device is not to blame for that.
    """
    device = device_named(name)
    if not device.is_here:
        raise DeviceError(
            f"'{name}' is not in this process but reached through {device.reach}: it replays a "
            f"bundle's vectors (edgetfm verify --device {name}) and runs nothing else"
        )
    return _ready(device)


def _ready(device: Device) -> Device:
    if device.is_here:
        try:
            ort()
        except MissingExtra as error:
            raise MissingExtra(device.extra, f"running a model on '{device.name}'") from error
    missing = device.missing()
    if missing is not None:
        raise DeviceError(f"the device '{device.name}' cannot be used here, it needs {missing}")
    device.prepare()
    return device


def install(text: str, progress: Progress = quiet) -> list[str]:
    """Bring what devices lack, 'arm64,htp' or 'all'; returns the names of those that now are ready.

    A DeviceError lists those that cannot be brought, after the others were.
    """
    every = [name for name, device in DEVICES.items() if device.bring is not None]
    names = every if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    problems, done = [] if names else [_none_named()], []
    for name in names:
        try:
            device = device_named(name)
            if device.bring is not None:
                progress(f"bringing what {name} needs", 0, 0)
                device.bring()
            missing = device.missing()
            if missing is not None:
                raise DeviceError(f"'{name}' still needs {missing}")
            done.append(name)
        except (EdgetfmError, OSError) as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise DeviceError(listed(problems))
    return done


__all__ = [
    "DEVICES",
    "Device",
    "device_named",
    "devices_named",
    "install",
    "ready_device",
]
