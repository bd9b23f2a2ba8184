"""`edgetfm export`: a PyTorch model into a proven bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._progress import progress_bar
from edgetfm.cli._verb import (
    PRECISIONS,
    OptionalQuantize,
    folder,
    inputs,
    keep_fp32,
    quantize_options,
    verb,
)


@verb(cls=OptionalQuantize)
@click.argument("source")
@folder("-o", "--output", help="The bundle to write.", required=True)
@click.option("--task", help="What the model is for; read from its config if not given.")
@click.option(
    "--quantize",
    type=click.Choice(PRECISIONS),
    is_flag=False,
    flag_value="auto",
    metavar=f"[{'|'.join(PRECISIONS)}]",
    help="Make it smaller and faster. Alone it means auto: the best inside the budget.",
)
@inputs("What a module takes: module:function that returns example inputs, or arrays.")
@quantize_options
@click.option("--route", type=click.Choice(["native", "adapter"]), help="How to get the graph.")
@keep_fp32()
@click.option("--force", is_flag=True, help="Replace a bundle that exists.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the model.")
def command(out: Output, source: str, output: Path, quantize: str | None, **options: Any) -> None:
    """Turn SOURCE into a bundle that answers the same, or fail.

    SOURCE is a Hugging Face folder or a hub id, an ONNX file or a folder with one,
    package.module:function or file.py:function that returns an nn.Module, or a checkpoint of
    `edgetfm train`.
    """
    from edgetfm.cli._text import export_text
    from edgetfm.workflow.export import export_model

    wanted = None if quantize == "none" else quantize
    with progress_bar() as progress:
        result = export_model(source, output, quantize=wanted, progress=progress, **options)
    out.result(result.to_json(), lambda: export_text(result))
