"""A bundle's vectors replayed, and its source asked again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.budget import FLOAT_BOUND, Budget
from edgetfm.bundle import Bundle, open_bundle
from edgetfm.errors import InputError
from edgetfm.ledger import Ledger, Rung, rung
from edgetfm.progress import Progress, quiet
from edgetfm.proof import Subject, answers_of
from edgetfm.reporting.devices import devices_page
from edgetfm.runtime.devices import devices_named
from edgetfm.runtime.machine import machine
from edgetfm.runtime.pipelines import pipeline
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.scoring.evaluation import LabelledData, UserMetric, read_eval
from edgetfm.scoring.score import Score
from edgetfm.search.evidence import gather
from edgetfm.search.float_graph import ask
from edgetfm.search.goal import AnyPath, Goal
from edgetfm.search.metric import metric_rung
from edgetfm.search.pair_evidence import written_by
from edgetfm.vectors import read_vectors
from edgetfm.workflow.about import check_place, write_about
from edgetfm.workflow.build import open_model
from edgetfm.workflow.matrix import replayed

if TYPE_CHECKING:
    from edgetfm.foreign.model import Foreign
    from edgetfm.sources import Source


def verify_bundle(
    path: AnyPath,
    *,
    reference: AnyPath | None = None,
    inputs: str | None = None,
    evaluate: str | None = None,
    device: str = "cpu",
    allow_fallback: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = quiet,
) -> Ledger:
    """Replay a bundle's vectors on `device` and hold every variant against its bounds.

    device: one, or several with commas between; all must be ready, a DeviceError says what is not.
    Where there are several, one that cannot run a variant is written down and the others go on:
    `ledger.refusals` has why. reference: the source it was exported from; then PyTorch is asked
    again, on the shipped sample. inputs: what a module that is the reference takes, as it was
    given to the export.
    evaluate: labelled data, or 'module:function', by which every variant is judged beside fp32.
    Returns the ledger; the caller decides what a failure means (`ledger.passed`).
    """
    if inputs is not None and reference is None:
        raise InputError(f"--inputs {inputs} belongs to a --reference: give both, or none")
    bundle = open_bundle(path)
    manifest = bundle.manifest
    subject = Subject.of_bundle(manifest)
    data = None if evaluate is None else read_eval(evaluate, subject.task, manifest.labels)
    devices = devices_named(device)
    ledger = Ledger(machine=machine())
    for precision in manifest.precisions:
        for row in devices:
            progress(f"replaying {precision} on {row.name}", 0, 0)
            rungs, said = replayed(
                bundle, precision, row, allow_fallback=allow_fallback, alone=len(devices) == 1
            )
            ledger.rungs += rungs
            ledger.devices.append(said)
    if data is not None:
        near = next((row.name for row in devices if row.is_here), "cpu")
        options = {"device": near, "allow_fallback": allow_fallback}
        ledger.rungs += _judged(bundle, data, progress, options)
    if reference is not None:
        opened = open_model(
            reference,
            task=manifest.task,
            inputs=inputs,
            trust_remote_code=trust_remote_code,
            route=manifest.route,
        )
        ledger.rungs += _asked_again(bundle, subject, opened, reference, progress)
    return ledger


def _judged(
    bundle: Bundle, data: LabelledData | UserMetric, progress: Progress, options: dict[str, Any]
) -> list[Rung]:
    """The task's own metric of every variant, beside fp32's where that is in the bundle."""
    budget, rungs = Budget.of_text(bundle.manifest.budget), []
    fp32: Score | None = None
    for precision in sorted(bundle.manifest.precisions, key=lambda name: name != "fp32"):
        progress(f"measuring {data.metric_name} of {precision}", 0, 0)
        score = data.score(pipeline(bundle.root, precision=precision, **options))
        rungs.append(
            metric_rung(
                precision,
                data.metric_name,
                score,
                fp32,
                data.count if isinstance(data, LabelledData) else 0,
                budget,
                higher_is_better=data.higher_is_better,
            )
        )
        fp32 = score if precision == "fp32" else fp32
    return rungs


def _asked_again(
    bundle: Bundle,
    subject: Subject,
    opened: Source | Foreign,
    reference: AnyPath,
    progress: Progress,
) -> list[Rung]:
    """Ask the source again, and judge every variant by it on the shipped sample, or the vectors."""
    manifest = bundle.manifest
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
    if subject.task.seq2seq:
        best = "fp32" if "fp32" in manifest.precisions else manifest.default
        judged = written_by(bundle.graph(best), judged, manifest.generation, progress)
    truth = ask(opened.reference(), judged, subject.oracle, progress)
    rungs = []
    for precision in manifest.precisions:
        answers = answers_of(bundle.graph(precision), judged, settings=manifest.session)
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


def variant_sizes(path: AnyPath) -> dict[str, int]:
    """Variant -> bytes of its graphs and weights."""
    bundle = open_bundle(path, check_hashes=False)
    return {name: bundle.variant_bytes(name) for name in bundle.manifest.precisions}


def check_report(path: AnyPath, file: Path) -> None:
    """OutputError if a bundle's report cannot be written there: for before the bundle is asked."""
    check_place(file, open_bundle(path, check_hashes=False))


def write_report(path: AnyPath, ledger: Ledger, file: Path) -> None:
    """The devices of a ledger as a page. OutputError if it cannot be written, or is the bundle's.

    What was there stays whole until the page is.
    """
    bundle = open_bundle(path, check_hashes=False)
    write_about(bundle, file, devices_page(bundle.manifest, ledger, variant_sizes(path)))
