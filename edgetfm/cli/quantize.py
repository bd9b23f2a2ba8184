"""`edgetfm quantize`: a smaller, faster variant of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import PRECISIONS, folder, keep_fp32, quantize_options, verb


@verb()
@click.argument("bundle", metavar="BUNDLE|MODEL.onnx", type=click.Path(path_type=Path))
@folder("-o", "--output", help="The bundle to write; if not given, the variant is added to BUNDLE.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS[:-1]),
    default="auto",
    show_default=True,
    help="What to make; auto is the best inside the budget.",
)
@click.option("--task", help="What an ONNX file does; its config says so if not given.")
@quantize_options
@keep_fp32()
@click.option("--force", is_flag=True, help="Replace another bundle that exists at --output.")
def command(out: Output, bundle: Path, output: Path | None, precision: str, **options: Any) -> None:
    """Make a smaller, faster variant of BUNDLE and prove that it still answers the same.

    BUNDLE must hold its float32 variant (`edgetfm export --keep-fp32`, or one not quantized). Or
    it is an ONNX file of any Transformer, or a folder with one: then --output is made of it.
    """
    from edgetfm.cli._text import export_text
    from edgetfm.workflow.quantize import quantize_bundle

    with progress_bar() as progress:
        result = quantize_bundle(bundle, output, quantize=precision, progress=progress, **options)
    out.result(result.to_json(), lambda: export_text(result))
