"""The verbs: export, quantize, verify, bench, inspect, train. The command line calls these."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from edgetfm.bundle import Bundle, BundleWriter, Component, Manifest, open_bundle
from edgetfm.draft import Draft
from edgetfm.errors import BundleError, InputError, OutputError
from edgetfm.evidence import gather
from edgetfm.float_graph import ask, prove_float, write_float_graph
from edgetfm.foreign_files import is_foreign
from edgetfm.goal import AnyPath, Goal, Wanted
from edgetfm.metric import bind_metric, read_metric
from edgetfm.parity import FLOAT_BOUND, Budget, Ledger, Rung, rung
from edgetfm.progress import Progress, quiet
from edgetfm.proof import (
    VECTOR_FILES,
    Subject,
    answers_of,
    read_vectors,
    replay_rungs,
    session_run,
)
from edgetfm.runtime.machine import machine, runtime_version
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.tasks import TASKS
from edgetfm.variants import choose, finish

if TYPE_CHECKING:
    from edgetfm.foreign import Foreign
    from edgetfm.sources import Source
    from edgetfm.training import TrainResult


@dataclass(frozen=True)
class ExportResult:
    """What `export_model` and `quantize_bundle` made. `tried` describes every variant tried."""

    path: Path
    task: str
    family: str
    route: str
    variant: str
    bytes: int
    ledger: Ledger
    tried: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The form `--json` prints."""
        data = {k: getattr(self, k) for k in self.__dataclass_fields__}
        return data | {"path": str(self.path), "ledger": self.ledger.to_json()}


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
    model type. wanted: how it is quantized, see `edgetfm.goal.Wanted`; without, fp32 ships.

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
        manifest = _manifest(opened, opened.family.name, draft, chosen)
        bundle = finish(draft, manifest, keep_fp32=keep_fp32)
    return _result(bundle, draft, started)


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
    wanted: see `edgetfm.goal.Wanted`; 'auto' is what is wanted if it does not say.
    """
    started = time.perf_counter()
    goal = Goal.of({"quantize": "auto", **wanted})
    if is_foreign(bundle):
        return _quantize_foreign(bundle, output, task, goal, force, keep_fp32, progress)
    old = open_bundle(bundle)
    manifest = old.manifest
    if "fp32" not in manifest.components["model"].variants:
        raise InputError(f"{bundle} has no fp32 variant to quantize: export it with --keep-fp32")
    signature = manifest.components["model"].signature
    subject = Subject.of_bundle(manifest)
    kind = subject.task
    labelled = read_metric(goal, subject, manifest.labels)
    in_place = output is None
    with BundleWriter(bundle if output is None else output, force=force or in_place) as writer:
        fp32 = manifest.components["model"].variants["fp32"]
        others = [v for p, v in manifest.components["model"].variants.items() if p != "fp32"]
        remade = {name for v in others for name in (v.file, v.data)} | set(VECTOR_FILES)
        for name in manifest.files:
            if name not in remade:
                writer.copy(old.path(name), name)
        preprocessor = Preprocessor.from_folder(writer.staging, manifest.preprocessing, signature)
        vectors = read_vectors(old)
        evidence = gather(preprocessor, signature, kind, goal, None)
        evidence = evidence.beginning_with(vectors.cases)
        draft = Draft(
            writer=writer,
            subject=subject,
            evidence=evidence,
            budget=goal.budget or manifest.budget or kind.budget,
            progress=progress,
            notes=list(evidence.notes),
        )
        draft.variants["fp32"] = fp32
        draft.truth = vectors.pytorch
        float_graph = session_run(old.path(fp32.file), signature=signature)
        draft.judged = ask(float_graph, evidence.judged, "the fp32 graph", progress)
        del float_graph
        prove_float(draft)
        draft.metric = bind_metric(draft, labelled, preprocessor)
        chosen = choose(draft, goal, Path(bundle if output is None else output))
        components = {"model": Component(signature, draft.variants)}
        made = replace(
            manifest,
            default=chosen,
            components=components,
            budget=draft.budget,
            calibration=evidence.facts,
            versions=manifest.versions | _versions(),
        )
        result = finish(draft, made, keep_fp32=keep_fp32 or in_place)
    return _result(result, draft, started)


def _quantize_foreign(
    source: AnyPath,
    output: AnyPath | None,
    task: str | None,
    goal: Goal,
    force: bool,
    keep_fp32: bool,
    progress: Progress,
) -> ExportResult:
    """A bundle made of an ONNX file: as an export is, with the file in the place of PyTorch."""
    from edgetfm.foreign import check_output, open_foreign, write_foreign_graph

    started = time.perf_counter()
    progress("reading the graph", 0, 0)
    opened = open_foreign(source, task=task)
    target, subject = check_output(opened, output), opened.subject
    labelled = read_metric(goal, subject, opened.labels)
    with BundleWriter(target, force=force) as writer:
        for name, data in opened.assets.items():
            writer.write(name, data)
        preprocessor = Preprocessor.from_folder(
            writer.staging, opened.preprocessing, opened.signature
        )
        evidence = gather(preprocessor, opened.signature, subject.task, goal, None)
        draft = Draft(
            writer=writer,
            subject=subject,
            evidence=evidence,
            budget=goal.budget or subject.task.budget,
            progress=progress,
            notes=[*opened.notes, *evidence.notes],
        )
        write_foreign_graph(opened, draft)
        prove_float(draft)
        draft.metric = bind_metric(draft, labelled, preprocessor)
        chosen = choose(draft, goal, target)
        manifest = _manifest(opened, opened.family, draft, chosen)
        bundle = finish(draft, manifest, keep_fp32=keep_fp32)
    return _result(bundle, draft, started)


def _manifest(opened: Source | Foreign, family: str, draft: Draft, chosen: str) -> Manifest:
    """What a new bundle says of itself."""
    return Manifest(
        task=opened.task,
        family=family,
        route=opened.route,
        default=chosen,
        components={"model": Component(opened.signature, draft.variants)},
        source=opened.provenance,
        preprocessing=opened.preprocessing,
        labels=opened.labels,
        budget=draft.budget,
        calibration=draft.evidence.facts,
        versions=_versions(),
        licence=opened.licence,
        row_by_row=draft.subject.row_by_row,
    )


def verify_bundle(
    path: AnyPath,
    *,
    reference: AnyPath | None = None,
    device: str = "cpu",
    allow_fallback: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = quiet,
) -> Ledger:
    """Replay a bundle's vectors on `device` and hold every variant against its bounds.

    reference: the source it was exported from; then PyTorch is asked again, on the shipped
    sample. Returns the ledger; the caller decides what a failure means (`ledger.passed`).
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    subject = Subject.of_bundle(manifest)
    vectors = read_vectors(bundle)
    ledger = Ledger(machine=machine())
    budget = Budget.of_text(manifest.budget).of_answers
    for precision, variant in manifest.components["model"].variants.items():
        progress(f"replaying {precision} on {device}", 0, 0)
        answers = answers_of(
            bundle.path(variant.file),
            vectors.cases,
            device=device,
            settings=manifest.session,
            allow_fallback=allow_fallback,
            signature=subject.signature,
        )
        name = f"{precision} on {device}"
        ledger.rungs += replay_rungs(subject, precision, name, answers, vectors, budget)
    if reference is not None:
        ledger.rungs += _asked_again(bundle, subject, reference, trust_remote_code, progress)
    return ledger


def _asked_again(
    bundle: Bundle, subject: Subject, reference: AnyPath, trust: bool, progress: Progress
) -> list[Rung]:
    """Ask the source again, and judge every variant by it on the shipped sample, or the vectors."""
    manifest = bundle.manifest
    opened: Source | Foreign
    if is_foreign(reference):
        from edgetfm.foreign import open_foreign

        opened = open_foreign(reference, task=manifest.task)
    else:
        from edgetfm.sources import open_source

        opened = open_source(
            reference, task=manifest.task, trust_remote_code=trust, route=manifest.route
        )
    if opened.provenance.get("sha256") != manifest.source.get("sha256"):
        raise InputError(
            f"{reference} is not what {bundle.root} was exported from: its hash differs "
            f"({manifest.source.get('name')} was the source)"
        )
    judged = read_vectors(bundle).cases
    if manifest.preprocessing:
        preprocessor = Preprocessor.from_folder(
            bundle.root, manifest.preprocessing, subject.signature
        )
        sample = getattr(opened, "sample", None)
        judged = gather(preprocessor, subject.signature, subject.task, Goal("auto"), sample).judged
    truth = ask(opened.reference(), judged, subject.oracle, progress)
    rungs = []
    for precision, variant in manifest.components["model"].variants.items():
        path = bundle.path(variant.file)
        answers = answers_of(path, judged, settings=manifest.session)
        comparison = subject.compare(answers, truth, judged)
        budget = Budget.of_text(manifest.budget).of_answers
        bound = FLOAT_BOUND if precision == "fp32" else budget
        output = "" if precision == "fp32" else subject.judged_output
        rungs.append(
            rung(
                precision,
                f"{subject.oracle} ({reference})",
                comparison,
                bound=bound,
                bound_on=output,
            )
        )
    return rungs


def bench_bundle(
    path: AnyPath,
    *,
    precision: str | None = None,
    device: str = "cpu",
    batch: int = 1,
    sequence: int = 128,
    threads: int | None = None,
    runs: int = 50,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Latency, load time and peak memory of a bundle; see edgetfm.runtime.bench for the fields."""
    from edgetfm.runtime.bench import bench

    return bench(
        path,
        precision=precision,
        device=device,
        batch=batch,
        sequence=sequence,
        threads=threads,
        runs=runs,
        progress=progress,
    )


def train_model(
    config: AnyPath,
    output: AnyPath,
    *,
    overrides: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: Progress = quiet,
) -> TrainResult:
    """Train a model from a TOML config (a path, or the name of one that ships)."""
    from edgetfm.training import train

    return train(str(config), Path(output), overrides=overrides, force=force, progress=progress)


def inspect_bundle(path: AnyPath) -> dict[str, Any]:
    """What a bundle is: its manifest, the bytes of each variant, and its ledger if it has one."""
    bundle = open_bundle(path)
    variants = bundle.manifest.components["model"].variants
    ledger = bundle.path("parity.json")
    return bundle.manifest.to_json() | {
        "path": str(path),
        "variant_bytes": {p: bundle.variant_bytes(p) for p in variants},
        "total_bytes": sum(e.bytes for e in bundle.manifest.files.values()),
        "ledger": _read_ledger(ledger),
    }


def _read_ledger(path: Path) -> dict[str, Any] | None:
    """The ledger as it was written, None if there is none. It is not hashed: it may be damaged."""
    if not path.is_file():
        return None
    try:
        ledger: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rungs = ledger["rungs"]
        whole = all(isinstance(r["bound"], str) and "passed" in r for r in rungs)
    except (ValueError, KeyError, TypeError, RecursionError, OSError):
        whole = False
    if not whole or not isinstance(ledger.get("machine"), dict):
        raise BundleError(f"{path} is damaged: remove it, or export the model again")
    return ledger


def _versions() -> dict[str, str]:
    found = {}
    for name in ("edgetfm", "torch", "transformers", "onnx", "onnx-ir", "onnxscript"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | {"onnxruntime": runtime_version() or "absent"}


def _result(bundle: Bundle, draft: Draft, started: float) -> ExportResult:
    manifest = bundle.manifest
    return ExportResult(
        path=bundle.root,
        task=manifest.task,
        family=manifest.family,
        route=manifest.route,
        variant=manifest.default,
        bytes=sum(entry.bytes for entry in manifest.files.values()),
        ledger=draft.ledger,
        tried=tuple(tried.to_json() for tried in draft.tried),
        notes=tuple(draft.notes),
        seconds=time.perf_counter() - started,
    )
