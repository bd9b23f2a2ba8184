"""`edgetfm bench`: how fast and how large a bundle is on this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import count, folder, run_options, verb


@verb()
@click.argument("bundle", type=click.Path(path_type=Path))
@count("--batch", default=1, help="Texts, images or sounds at once.")
@count("--sequence", default=128, help="Tokens of a text or prompt; ignored for images and sounds.")
@count("--runs", default=50, help="Timed runs; of a decoder, tokens after a prompt.")
@folder("--compare", help="Fail if it is slower than in this file, kept from `bench --json`.")
@click.option(
    "--sweep",
    multiple=True,
    metavar="AXIS=A,B",
    help="Measure each: threads=1,2,4 or batch, sequence, device, precision; repeatable.",
)
@click.option(
    "--rest",
    type=click.FloatRange(min=0, max=3600),
    default=0,
    help="Seconds between what is swept, for a phone to cool down.",
)
@partial(run_options, threads=1)
def command(
    out: Output,
    bundle: Path,
    compare: Path | None,
    sweep: tuple[str, ...],
    rest: float,
    **options: Any,
) -> None:
    """Measure latency (median and 95th percentile), load time and memory of BUNDLE.

    Of a decoder: tokens a second of prompt and answer, and the time to the first token.
    """
    from edgetfm.cli._sweep import sweep_text
    from edgetfm.cli._text import bench_text
    from edgetfm.errors import InputError
    from edgetfm.workflow import sweep as sweeps
    from edgetfm.workflow.bench import bench_bundle
    from edgetfm.workflow.regression import check_regression, read_measured

    if sweep:
        if compare is not None:
            raise InputError("--compare holds one measurement against another: leave out --sweep")
        axes = sweeps.parse_sweep(sweep)
        with progress_bar() as progress:
            data = sweeps.sweep(bundle, axes, rest=rest, progress=progress, **options)
        out.result(data, lambda: sweep_text(data, axes))
        return
    old = None if compare is None else read_measured(compare)
    with progress_bar() as progress:
        data = bench_bundle(bundle, progress=progress, **options)
    if old is not None:
        data["compared"] = check_regression(data, old, str(compare))
    out.result(data, lambda: bench_text(data))
