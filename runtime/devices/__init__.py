"""The devices by name, one file each."""

from __future__ import annotations

from edgetfm.errors import DeviceError, MissingExtra
from edgetfm.runtime._ort import ort
from edgetfm.runtime.devices import cpu, cuda
from edgetfm.runtime.devices._device import Device

DEVICES: dict[str, Device] = {row.name: row for row in (cpu.DEVICE, cuda.DEVICE)}


def device_named(name: str) -> Device:
    """The device of this name; a DeviceError that lists them otherwise."""
    if name not in DEVICES:
        raise DeviceError(f"unknown device '{name}'; known are {', '.join(DEVICES)}")
    return DEVICES[name]


def ready_device(name: str) -> Device:
    """The device of this name, ready for a session; a DeviceError says what is missing.

    MissingExtra where there is no onnxruntime at all: the device is not to blame for that.
    """
    device = device_named(name)
    try:
        ort()
    except MissingExtra as error:
        raise MissingExtra(device.extra, f"running a model on '{name}'") from error
    missing = device.missing()
    if missing is not None:
        raise DeviceError(f"the device '{name}' cannot be used here, it needs {missing}")
    device.prepare()
    return device


__all__ = ["DEVICES", "Device", "device_named", "ready_device"]
