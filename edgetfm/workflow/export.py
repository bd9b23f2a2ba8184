"""A model in, a bundle out, every answer compared."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Unpack

from edgetfm.errors import InputError, OutputError
from edgetfm.progress import Progress, quiet
from edgetfm.search.goal import AnyPath, Goal, Wanted
from edgetfm.workflow.build import build_bundle, open_model
from edgetfm.workflow.made import ExportResult


def export_model(
    source: AnyPath,
    output: AnyPath,
    *,
    task: str | None = None,
    inputs: str | None = None,
    route: str | None = None,
    force: bool = False,
    keep_fp32: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = quiet,
    **wanted: Unpack[Wanted],
) -> ExportResult:
    """Export `source` to a bundle at `output` whose every answer was compared with its source's.

    source: a Hugging Face folder or hub id, a checkpoint trained here, 'module:function' or
    'file.py:function' that returns an nn.Module, or an ONNX file or a folder with one. inputs:
    for a module, a function that returns its example inputs, or a .npz file. route: `native`, one
    of our families, or `adapter`, transformers.exporters; None is native where a family has the
    model type. wanted: how it is quantized, see `edgetfm.search.goal.Wanted`; without, fp32 ships.

    Raises SourceError, DataError or OutputError for what cannot be used, ParityError if an
    exported graph differs from PyTorch, BudgetError if no variant is inside the budget. Nothing
    is written then.
    """
    started = time.perf_counter()
    goal = Goal.of(wanted)
    if route not in (None, "native", "adapter"):
        raise InputError(f"route is '{route}', it can be native or adapter")
    place = Path(source)
    if place.exists() and place.resolve().is_relative_to(Path(output).resolve()):
        raise OutputError(f"{output} holds the source {source}, which it would replace")
    progress("reading the model", 0, 0)
    opened = open_model(
        source, task=task, inputs=inputs, trust_remote_code=trust_remote_code, route=route
    )
    return build_bundle(
        opened,
        output,
        goal,
        force=force,
        keep_fp32=keep_fp32,
        progress=progress,
        started=started,
    )
