"""Rows that differ in a few words: CPUs under qemu, the web's, providers only looked at."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from edgetfm.runtime.devices._device import Device, Proof
from edgetfm.runtime.remote import checker, emulated, web


def emulated_x86(name: str, what: str) -> Device:
    """This machine's Python on another x86 CPU, which is a target of the same name.

    Answers are the CPU's, times are qemu's.
    """

    def answer(folder: Path) -> None:
        emulated.run(emulated.x86_command(name), folder)

    return Device(
        name=name,
        what=what,
        provider="CPUExecutionProvider",
        extra="cpu",
        missing=emulated.missing(name, "qemu-x86_64-static"),
        prepare=partial(emulated.check_qemu, name),
        target=name,
        proves="emulated",
        reach="qemu",
        answer=answer,
        bring=emulated.bring_qemu,
    )


def emulated_arm(name: str, what: str, cpu: str) -> Device:
    """A small ARM system's Python on the 64-bit ARM CPU that qemu calls `cpu`."""

    def answer(folder: Path) -> None:
        emulated.run(emulated.arm_command(cpu), folder)

    return Device(
        name=name,
        what=what,
        provider="CPUExecutionProvider",
        extra="cpu",
        missing=emulated.missing(name, "qemu-aarch64-static", arm=True),
        prepare=partial(emulated.check_arm, name),
        target="arm64",
        proves="emulated",
        reach="qemu",
        answer=answer,
        bring=emulated.bring_arm,
    )


def on_the_web(
    name: str,
    what: str,
    *,
    target: str,
    proves: Proof,
    reach: str,
    answer: Callable[[Path], None],
    browser: bool,
) -> Device:
    """onnxruntime-web with the provider that `name` ends with."""
    return Device(
        name=name,
        what=what,
        provider=name.removeprefix("web-"),
        extra="cpu",
        missing=web.missing(name, browser=browser),
        target=target,
        proves=proves,
        reach=reach,
        answer=answer,
        bring=web.bring,
    )


def predicted(name: str, what: str, provider: str, *, table: str, target: str) -> Device:
    """A provider by its own list of operators, which the checker knows as `table`: nothing is run.

    Graphs are looked at with one row and no free axes, as NPUs want them.
    """
    return Device(
        name=name,
        what=what,
        provider=provider,
        extra="export",
        missing=checker.missing,
        target=target,
        proves="static",
        reach="the usability checker",
        predict=partial(checker.predict, provider=table),
        rows=1,
        fixed=True,
    )
