"""A bundle's vectors replayed, and its source asked again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgetfm.budget import FLOAT_BOUND, Budget
from edgetfm.bundle import Bundle, open_bundle
from edgetfm.errors import InputError
from edgetfm.ledger import Ledger, Rung, rung
from edgetfm.progress import Progress, quiet
from edgetfm.proof import Subject, answers_of
from edgetfm.runtime.machine import machine
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.search.evidence import gather
from edgetfm.search.float_graph import ask
from edgetfm.search.goal import AnyPath, Goal
from edgetfm.search.pair_evidence import written_by
from edgetfm.vectors import read_vectors, replay_rungs
from edgetfm.workflow.build import open_model

if TYPE_CHECKING:
    from edgetfm.foreign.model import Foreign
    from edgetfm.sources import Source


def verify_bundle(
    path: AnyPath,
    *,
    reference: AnyPath | None = None,
    inputs: str | None = None,
    device: str = "cpu",
    allow_fallback: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = quiet,
) -> Ledger:
    """Replay a bundle's vectors on `device` and hold every variant against its bounds.

    reference: the source it was exported from; then PyTorch is asked again, on the shipped
    sample. inputs: what a module that is the reference takes, as it was given to the export.
    Returns the ledger; the caller decides what a failure means (`ledger.passed`).
    """
    if inputs is not None and reference is None:
        raise InputError(f"--inputs {inputs} belongs to a --reference: give both, or none")
    bundle = open_bundle(path)
    manifest = bundle.manifest
    subject = Subject.of_bundle(manifest)
    vectors = read_vectors(bundle)
    ledger = Ledger(machine=machine())
    budget = Budget.of_text(manifest.budget).of_answers
    signatures = {name: c.signature for name, c in manifest.components.items()}
    for precision in manifest.precisions:
        progress(f"replaying {precision} on {device}", 0, 0)
        answers = answers_of(
            bundle.graph(precision),
            vectors.cases,
            device=device,
            settings=manifest.session,
            allow_fallback=allow_fallback,
            signatures=signatures,
        )
        name = f"{precision} on {device}"
        ledger.rungs += replay_rungs(subject, precision, name, answers, vectors, budget)
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
