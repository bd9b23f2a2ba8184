"""A phone that is attached over adb."""

from __future__ import annotations

from dataclasses import replace

from edgetfm.runtime.devices._device import Device
from edgetfm.runtime.remote import adb

DEVICE = Device(
    name="adb",
    what="the CPU of an attached phone (adb:SERIAL is one of several)",
    provider="CPUExecutionProvider",
    extra="cpu",
    missing=adb.missing(None),
    target="arm64",
    reach="adb",
    answer=adb.answer(None),
)


def of_serial(serial: str) -> Device:
    """One of several phones."""
    return replace(
        DEVICE,
        name=f"adb:{serial}",
        missing=adb.missing(serial),
        answer=adb.answer(serial),
    )
