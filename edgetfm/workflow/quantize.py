"""A bundle that holds fp32, or any ONNX file, in; a smaller variant out. Without PyTorch."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from edgetfm.bundle import BundleWriter, open_bundle
from edgetfm.errors import InputError
from edgetfm.foreign.files import is_foreign
from edgetfm.foreign.model import check_output, open_foreign
from edgetfm.manifest import NPU, Manifest
from edgetfm.progress import Progress, quiet
from edgetfm.proof import Subject, session_run
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.search.draft import Draft
from edgetfm.search.evidence import gather
from edgetfm.search.float_graph import ask, prove_float
from edgetfm.search.goal import AnyPath, Goal, Wanted
from edgetfm.search.metric import bind_metric, read_metric
from edgetfm.search.pair_evidence import write_targets
from edgetfm.search.variants import choose, finish
from edgetfm.task import Task
from edgetfm.vectors import VECTOR_FILES, read_vectors
from edgetfm.workflow.build import build_bundle
from edgetfm.workflow.made import ExportResult, made_result, versions
from edgetfm.workflow.npu import add_npu_form


def quantize_bundle(
    bundle: AnyPath,
    output: AnyPath | None = None,
    *,
    task: str | None = None,
    force: bool = False,
    keep_fp32: bool = False,
    progress: Progress = quiet,
    **wanted: Unpack[Wanted],
) -> ExportResult:
    """Make a smaller, faster variant of a bundle that holds fp32, and prove it; needs no PyTorch.

    bundle: or an ONNX file of a Transformer, or a folder with one; then `output` is where a bundle
    is made of it, judged by the file itself. task: what that file does, if nothing beside it says.

    output: None adds the variant to `bundle` itself, in one step that leaves the old bundle whole
    until the new one is. keep_fp32: ship fp32 too; where it is added, it stays anyhow. The budget
    is judged against the fp32 variant, which the bundle's ledger has compared with PyTorch.
    wanted: see `edgetfm.search.goal.Wanted`; 'auto' is what is wanted if it does not say.
    """
    started = time.perf_counter()
    goal = Goal.of({"quantize": "auto", **wanted})
    if is_foreign(bundle):
        progress("reading the graph", 0, 0)
        opened = open_foreign(bundle, task=task)
        return build_bundle(
            opened,
            check_output(opened, output),
            goal,
            force=force,
            keep_fp32=keep_fp32,
            progress=progress,
            started=started,
        )
    old = open_bundle(bundle)
    manifest = old.manifest
    if "fp32" not in manifest.precisions:
        raise InputError(f"{bundle} has no fp32 variant to quantize: export it with --keep-fp32")
    signature = manifest.signature
    subject = Subject.of_bundle(manifest)
    kind = subject.task
    goal.check(kind)
    labelled = read_metric(goal, subject, manifest.labels)
    in_place = output is None
    with BundleWriter(bundle if output is None else output, force=force or in_place) as writer:
        known = manifest.components
        fp32 = {name: c.variants["fp32"] for name, c in known.items()}
        others = [v for c in known.values() for p, v in c.variants.items() if p != "fp32"]
        remade = {name for v in others for name in (v.file, v.data)} | set(VECTOR_FILES)
        for name in manifest.files:
            if name not in remade and not name.startswith(NPU):
                writer.copy(old.path(name), name)
        preprocessor = Preprocessor.from_folder(writer.staging, manifest.preprocessing, signature)
        vectors = read_vectors(old)
        evidence = gather(
            preprocessor, subject.signature, kind, goal, None, generation=manifest.generation
        )
        evidence = evidence.beginning_with(vectors.cases)
        draft = Draft(
            writer=writer,
            subject=subject,
            evidence=evidence,
            signatures={name: c.signature for name, c in known.items()},
            budget=goal.budget
            or _asked_for(manifest, kind)
            or kind.budget_of(goal.quantize, labelled is not None),
            progress=progress,
            notes=list(evidence.notes),
        )
        draft.variants["fp32"] = fp32
        draft.truth = vectors.pytorch
        if not kind.seq2seq:
            float_graph = session_run(old.graph("fp32"), signatures=draft.signatures)
            draft.judged = ask(float_graph, evidence.judged, "the fp32 graph", progress)
            del float_graph
        prove_float(draft)
        write_targets(draft, manifest.generation)
        draft.metric = bind_metric(draft, labelled, preprocessor, manifest.generation)
        chosen = choose(draft, goal, Path(bundle if output is None else output))
        add_npu_form(draft, goal, chosen)
        made = replace(
            manifest,
            default=chosen,
            components=draft.components,
            budget=draft.budget,
            calibration=evidence.facts,
            versions=manifest.versions | versions(),
        )
        result = finish(draft, made, keep_fp32=keep_fp32 or in_place)
    return made_result(result, draft, started)


def _asked_for(manifest: Manifest, task: Task) -> str:
    """The budget that a bundle was given, '' where it is a default: each precision has its own."""
    defaults = (task.budget, *task.budgets.values())
    return "" if manifest.budget in defaults else manifest.budget
