"""`edgetfm doctor`: what this machine can do, and what it lacks."""

from __future__ import annotations

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import verb


@verb()
@click.option("--install", metavar="DEVICES", help="Bring what these devices need, or all of them.")
def command(out: Output, install: str | None) -> None:
    """Examine this machine: Python, runtimes, extras, devices and CPU features.

    What --install brings lies in the cache of edgetfm; nothing of the system is changed.
    """
    from edgetfm.cli._text import checks_text
    from edgetfm.runtime import devices
    from edgetfm.runtime.doctor import examine

    if install is not None:
        with progress_bar() as progress:
            brought = devices.install(install, progress)
        for name in brought:
            if devices.device_named(name).bring is None:
                out.note(f"{name}: nothing is to be installed for it")
    checks = examine()
    out.result({"checks": checks}, lambda: checks_text(checks))
