"""`edgetfm doctor`: what this machine can do, and what it lacks."""

from __future__ import annotations

from edgetfm.cli._output import Output
from edgetfm.cli._verb import verb


@verb()
def command(out: Output) -> None:
    """Examine this machine: Python, runtimes, extras, devices and CPU features."""
    from edgetfm.cli._text import checks_text
    from edgetfm.runtime.doctor import examine

    checks = examine()
    out.result({"checks": checks}, lambda: checks_text(checks))
