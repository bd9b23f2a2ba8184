"""`edgetfm compare`: two bundles side by side."""

from __future__ import annotations

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import verb


@verb()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
def command(out: Output, a: str, b: str) -> None:
    """Measure how much smaller and faster B is than A, and how far its answers are from A's.

    A and B are bundles of one task; BUNDLE@fp32 is another variant than the default. Both answer
    the inputs of A's vectors, in turns, in one process.
    """
    from edgetfm.cli._text import comparison_text
    from edgetfm.workflow.compare import compare_bundles

    with progress_bar() as progress:
        found = compare_bundles(a, b, progress)
    out.result(found.to_json(), lambda: comparison_text(found))
