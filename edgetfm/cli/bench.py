"""`edgetfm bench`: how fast and how large a bundle is on this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import count, run_options, verb


@verb()
@click.argument("bundle", type=click.Path(path_type=Path))
@count("--batch", default=1, help="Texts, images or sounds at once.")
@count("--sequence", default=128, help="Tokens of a text or prompt; ignored for images and sounds.")
@count("--runs", default=50, help="Timed runs; of a decoder, tokens after a prompt.")
@partial(run_options, threads=1)
def command(out: Output, bundle: Path, **options: Any) -> None:
    """Measure latency (median and 95th percentile), load time and memory of BUNDLE.

    Of a decoder: tokens a second of prompt and answer, and the time to the first token.
    """
    from edgetfm.cli._text import bench_text
    from edgetfm.workflow.bench import bench_bundle

    with progress_bar() as progress:
        data = bench_bundle(bundle, progress=progress, **options)
    out.result(data, lambda: bench_text(data))
