"""PyTorch in, a bundle out, every answer compared."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Unpack

from edgetfm.bundle import BundleWriter
from edgetfm.errors import InputError, OutputError
from edgetfm.progress import Progress, quiet
from edgetfm.proof import Subject
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.search.draft import Draft
from edgetfm.search.evidence import gather
from edgetfm.search.float_graph import prove_float, write_float_graph
from edgetfm.search.goal import AnyPath, Goal, Wanted
from edgetfm.search.metric import bind_metric, read_metric
from edgetfm.search.variants import choose, finish
from edgetfm.tasks import TASKS
from edgetfm.workflow.made import ExportResult, made_result, new_manifest


def export_model(
    source: AnyPath,
    output: AnyPath,
    *,
    task: str | None = None,
    route: str | None = None,
    force: bool = False,
    keep_fp32: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = quiet,
    **wanted: Unpack[Wanted],
) -> ExportResult:
    """Export `source` to a bundle at `output` whose every answer was compared with PyTorch.

    source: a Hugging Face folder or hub id, or a checkpoint trained here. route: `native`, one of
    our families, or `adapter`, transformers.exporters; None is native where a family has the
    model type. wanted: how it is quantized, see `edgetfm.search.goal.Wanted`; without, fp32 ships.

    Raises SourceError, DataError or OutputError for what cannot be used, ParityError if an
    exported graph differs from PyTorch, BudgetError if no variant is inside the budget. Nothing
    is written then.
    """
    from edgetfm.sources import open_source

    started = time.perf_counter()
    goal = Goal.of(wanted)
    if route not in (None, "native", "adapter"):
        raise InputError(f"route is '{route}', it can be native or adapter")
    place = Path(source)
    if place.is_dir() and place.resolve().is_relative_to(Path(output).resolve()):
        raise OutputError(f"{output} holds the source {source}, which it would replace")
    progress("reading the model", 0, 0)
    opened = open_source(source, task=task, trust_remote_code=trust_remote_code, route=route)
    kind = TASKS[opened.task]
    signature = opened.signature
    subject = Subject(kind, signature)
    labelled = read_metric(goal, subject, opened.labels)
    with BundleWriter(output, force=force) as writer:
        for name, data in opened.assets.items():
            writer.write(name, data)
        preprocessor = Preprocessor.from_folder(writer.staging, opened.preprocessing, signature)
        evidence = gather(
            preprocessor, signature, kind, goal, opened.sample, long=opened.route == "adapter"
        )
        draft = Draft(
            writer=writer,
            subject=subject,
            evidence=evidence,
            budget=goal.budget or kind.budget,
            progress=progress,
            notes=[*opened.notes, *evidence.notes],
        )
        write_float_graph(opened, draft)
        prove_float(draft, opened)
        draft.metric = bind_metric(draft, labelled, preprocessor)
        chosen = choose(draft, goal, Path(output))
        manifest = new_manifest(opened, opened.family.name, draft, chosen)
        bundle = finish(draft, manifest, keep_fp32=keep_fp32)
    return made_result(bundle, draft, started)
