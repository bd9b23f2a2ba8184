"""`edgetfm inspect`: what is in a bundle or a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from edgetfm.cli._output import Output
from edgetfm.cli._verb import verb


@verb()
@click.argument("path", type=click.Path(path_type=Path))
def command(out: Output, path: Path) -> None:
    """Say what PATH, a bundle or a checkpoint, holds: task, inputs, variants, sizes."""
    from edgetfm.cli._text import facts_text
    from edgetfm.workflow import inspect_bundle

    data = inspect_bundle(path)
    out.result(data, lambda: facts_text(data))
