"""What every new bundle has in common: a source is opened, its graph proven, a variant chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgetfm.bundle import BundleWriter
from edgetfm.errors import InputError
from edgetfm.foreign.files import holds_weights, is_foreign
from edgetfm.foreign.model import Foreign, open_foreign, write_foreign_graph
from edgetfm.manifest import MANIFEST
from edgetfm.progress import Progress
from edgetfm.runtime.cases import LONG_TEXT, long_prompt
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.search.draft import Draft
from edgetfm.search.evidence import Evidence, gather
from edgetfm.search.example_evidence import of_examples
from edgetfm.search.float_graph import make_float_graph, prove_float
from edgetfm.search.goal import AnyPath, Goal
from edgetfm.search.metric import bind_metric, read_metric
from edgetfm.search.pair_evidence import write_targets
from edgetfm.search.variants import choose, finish
from edgetfm.workflow.made import ExportResult, made_result, new_manifest
from edgetfm.workflow.npu import add_npu_form

if TYPE_CHECKING:
    from edgetfm.sources import Source


def open_model(
    source: AnyPath,
    *,
    task: str | None = None,
    inputs: str | None = None,
    trust_remote_code: bool = False,
    route: str | None = None,
) -> Source | Foreign:
    """The model that `source` names: an ONNX file needs no PyTorch, everything else does.

    A folder with both is read from its PyTorch weights. Options as those of
    `edgetfm.workflow.export.export_model`; InputError for those that have no meaning for this
    source.
    """
    if (Path(source) / MANIFEST).is_file():
        raise InputError(f"{source} is a bundle already: edgetfm quantize makes other variants")
    if is_foreign(source) and not holds_weights(Path(source)):
        given = {"--inputs": inputs, "--route": None if route == "onnx" else route}
        if meant := [name for name, value in given.items() if value is not None]:
            raise InputError(f"{source} is an ONNX file: leave out {' and '.join(meant)}")
        return open_foreign(source, task=task)
    from edgetfm.sources import open_source

    return open_source(
        source, task=task, inputs=inputs, trust_remote_code=trust_remote_code, route=route
    )


def build_bundle(
    opened: Source | Foreign,
    output: AnyPath,
    goal: Goal,
    *,
    force: bool,
    keep_fp32: bool,
    progress: Progress,
    started: float,
) -> ExportResult:
    """A bundle of what was opened: its float32 graph proven, then what the goal wants of it.

    The oracle of a PyTorch model is eager PyTorch, that of an ONNX file the file as it is.
    started: when the work began, by time.perf_counter.
    """
    subject = opened.subject
    goal.check(subject.task)
    labelled = read_metric(goal, subject, opened.labels)
    with BundleWriter(output, force=force) as writer:
        for name, data in opened.assets.items():
            writer.write(name, data)
        preprocessor = Preprocessor.from_folder(
            writer.staging, opened.preprocessing, opened.signature
        )
        evidence = _evidence(opened, preprocessor, goal)
        draft = Draft(
            writer=writer,
            subject=subject,
            evidence=evidence,
            signatures=opened.signatures,
            budget=goal.budget or subject.task.budget_of(goal.quantize, labelled is not None),
            progress=progress,
            notes=[*opened.notes, *evidence.notes],
        )
        if isinstance(opened, Foreign):
            write_foreign_graph(opened, draft)
            prove_float(draft)
        else:
            make_float_graph(opened, draft)
        write_targets(draft, opened.generation)
        draft.metric = bind_metric(draft, labelled, preprocessor, opened.generation)
        chosen = choose(draft, goal, Path(output))
        add_npu_form(draft, goal, chosen)
        family = opened.family if isinstance(opened, Foreign) else opened.family.name
        manifest = new_manifest(opened, family, draft, chosen)
        bundle = finish(draft, manifest, keep_fp32=keep_fp32)
    return made_result(bundle, draft, started)


def _evidence(opened: Source | Foreign, preprocessor: Preprocessor, goal: Goal) -> Evidence:
    """What is asked: the cases that a module came with, else texts, pictures or the user's data."""
    signature, task = opened.subject.signature, opened.subject.task
    if isinstance(opened, Foreign):
        return gather(preprocessor, signature, task, goal, None)
    if opened.cases:
        return of_examples(opened.cases, opened.examples, signature, goal)
    long = LONG_TEXT if opened.route == "adapter" else 0
    notes: tuple[str, ...] = ()
    if task.generates and not task.seq2seq:
        window = getattr(opened.config, "window", 0)
        long = max(long, long_prompt(window))
        if long <= window < opened.config.longest:
            notes = (f"its window of {window} tokens is longer than any text it was proven on",)
    found = gather(
        preprocessor,
        signature,
        task,
        goal,
        opened.sample,
        long=long,
        generation=opened.generation,
    )
    return replace(found, notes=(*found.notes, *notes))
