"""`edgetfm verify`: the proof of a bundle, once more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import device, folder, inputs, verb
from edgetfm.errors import DeviceError, EdgetfmError, OutputError, ParityError, listed


@verb()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--reference", metavar="SOURCE", help="Compare with this PyTorch model again.")
@click.option(
    "--eval", "evaluate", metavar="DATA", help="Judge every variant by labelled data, too."
)
@inputs("What SOURCE takes, if it is a module: as given to `edgetfm export`.")
@click.option("--allow-fallback", is_flag=True, help="Let other devices take what DEVICE cannot.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with SOURCE.")
@folder("--report", help="Write the table of devices as a page of HTML to this file.")
@device()
def command(out: Output, bundle: Path, report: Path | None, **options: Any) -> None:
    """Check hashes, replay the vectors and hold every answer of BUNDLE against its bound."""
    from edgetfm.cli._text import devices_text, ledger_text
    from edgetfm.workflow.verify import (
        check_report,
        variant_sizes,
        verify_bundle,
        write_report,
    )

    if report is not None:
        check_report(bundle, report)
    with progress_bar() as progress:
        ledger = verify_bundle(bundle, progress=progress, **options)
    missed: EdgetfmError | None = None
    data = {"bundle": str(bundle), **ledger.to_json()}
    if not ledger.passed:
        # A wrong answer is worse than none, whose code is the device's.
        kind = ParityError if any(r.missed for r in ledger.rungs) else DeviceError
        missed = kind(listed(ledger.failures))
        kept = {"type": kind.__name__, "message": str(missed), "exit_code": kind.exit_code}
        data["error"] = kept
    if len({d["device"] for d in ledger.devices} - {"cpu"}):
        out.result(data, lambda: devices_text(ledger, variant_sizes(bundle)))
    else:
        out.result(data, lambda: ledger_text(ledger))
    if report is not None:
        try:
            write_report(bundle, ledger, report)
        except OutputError as error:
            if missed is None:
                raise
            out.note(str(error))  # the code tells of the bundle, which is what was asked
    if missed:
        raise missed
