"""`edgetfm verify`: the proof of a bundle, once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import device, inputs, verb
from edgetfm.errors import ParityError, listed


@verb()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--reference", metavar="SOURCE", help="Compare with this PyTorch model again.")
@inputs("What SOURCE takes, if it is a module: as given to `edgetfm export`.")
@click.option("--allow-fallback", is_flag=True, help="Let other devices take what DEVICE cannot.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with SOURCE.")
@device()
def command(out: Output, bundle: Path, **options: Any) -> None:
    """Check hashes, replay the vectors and hold every answer of BUNDLE against its bound."""
    from edgetfm.cli._text import ledger_text
    from edgetfm.workflow.verify import verify_bundle

    with progress_bar() as progress:
        ledger = verify_bundle(bundle, progress=progress, **options)
    missed = None if ledger.passed else ParityError(listed(ledger.failures))
    error = {"type": "ParityError", "message": str(missed), "exit_code": ParityError.exit_code}
    out.result(
        {"bundle": str(bundle), **ledger.to_json()} | ({"error": error} if missed else {}),
        lambda: ledger_text(ledger),
    )
    if missed:
        raise missed
