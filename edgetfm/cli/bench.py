"""`edgetfm bench`: how fast and how large a bundle is on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import device, verb


@verb()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Texts or images at once.",
)
@click.option(
    "--sequence",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Tokens of a text or prompt; ignored for images.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads of one operation.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Timed runs; of a decoder, tokens after a prompt.",
)
@click.option("--precision", help="A variant of the bundle; its default if not given.")
@device()
def command(out: Output, bundle: Path, **options: Any) -> None:
    """Measure latency (median and 95th percentile), load time and memory of BUNDLE.

    Of a decoder: tokens a second of prompt and answer, and the time to the first token.
    """
    from edgetfm.cli._text import bench_text
    from edgetfm.workflow.bench import bench_bundle

    with progress_bar() as progress:
        data = bench_bundle(bundle, progress=progress, **options)
    out.result(data, lambda: bench_text(data))
