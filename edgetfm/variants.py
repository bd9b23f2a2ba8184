"""The middle of the work: prove the float graph, try variants, keep the best inside the budget."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.bundle import SUFFIXES, Bundle, BundleWriter, Manifest, Variant
from edgetfm.errors import BudgetError, listed
from edgetfm.evidence import Evidence
from edgetfm.parity import Budget, Ledger, Measures, Rung, rung
from edgetfm.progress import Progress
from edgetfm.proof import (
    DEVICE_BOUNDS,
    Subject,
    answers_of,
    invariant_rungs,
    write_vectors,
)
from edgetfm.report import model_card, report_page
from edgetfm.runtime.divergence import first_divergence
from edgetfm.runtime.tuning import Timing, choose_session, compare_latency
from edgetfm.signature import Feeds

CHOICES = ("auto", "int8", "fp16", "none")
"""What `quantize` may be: one precision, the best of those in AUTO, or none."""
AUTO = ("int8",)
FP32 = "onnx/model.onnx"


@dataclass(frozen=True)
class Tried:
    """A variant that was made: its size, its loss, its latency relative to fp32, its facts."""

    precision: str
    bytes: int
    measures: dict[str, Measures]
    missed: tuple[str, ...]
    latency: float | None = None
    spread: float | None = None
    metric: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def inside(self) -> bool:
        """Whether it is inside the budget."""
        return not self.missed

    def to_json(self) -> dict[str, Any]:
        """The form it has in reports and on `--json`."""
        measures = {name: m.to_json() for name, m in self.measures.items()}
        return asdict(self) | {"measures": measures, "inside": self.inside}


@dataclass
class Draft:
    """A bundle in the making.

    truth: PyTorch's answers to the evidence's cases, or to the first of them, when a bundle is
    quantized without PyTorch. judged: its answers, or the fp32 graph's, to what it is judged by.
    """

    writer: BundleWriter
    subject: Subject
    evidence: Evidence
    budget: str
    progress: Progress
    notes: list[str]
    truth: list[Feeds] = field(default_factory=list)
    judged: list[Feeds] = field(default_factory=list)
    variants: dict[str, Variant] = field(default_factory=dict)
    tried: list[Tried] = field(default_factory=list)
    session: dict[str, Any] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    def path(self, precision: str) -> Path:
        """The graph of a variant, where it is being made."""
        return self.writer.path(self.variants[precision].file)

    def bytes(self, precision: str) -> int:
        """The size of a variant's graph and weights."""
        variant = self.variants[precision]
        names = [variant.file, *([variant.data] if variant.data else [])]
        return sum(self.writer.entries[name].bytes for name in names)

    def drop(self, precision: str) -> None:
        """Take a variant out."""
        variant = self.variants.pop(precision)
        for name in (variant.file, variant.data):
            if name is not None:
                self.writer.discard(name)


def recipes_of(quantize: str | None) -> tuple[str, ...]:
    """The recipes that are tried for one of CHOICES, or for None."""
    return AUTO if quantize == "auto" else () if quantize in (None, "none") else (quantize,)


def choose(draft: Draft, quantize: str | None, prefer: str) -> str:
    """Make the wanted variants and return the precision to ship.

    One precision asked for by name ships or raises BudgetError; 'auto' keeps the fastest
    (`prefer` 'speed') or smallest inside the budget, and fp32 if none beats it.
    """
    wanted = recipes_of(quantize)
    facts = {precision: _make(draft, precision) for precision in wanted}
    probe = _probe(draft.evidence.cases)
    settings = {
        precision: choose_session(draft.path(precision), probe, progress=draft.progress)
        for precision in ("fp32", *wanted)
    }
    timings = compare_latency(
        {p: (draft.path(p), settings[p]) for p in settings}, probe, progress=draft.progress
    )
    rungs: dict[str, list[Rung]] = {"fp32": []}
    for precision in settings:
        if precision != "fp32":
            rungs[precision] = _variant_rungs(draft, precision, settings[precision])
        draft.tried.append(
            _describe(draft, precision, rungs[precision], timings, facts.get(precision, {}))
        )
    chosen = _best(draft, quantize, prefer)
    _say_what_lost(draft, chosen, quantize)
    draft.ledger.rungs += rungs[chosen]
    draft.session = settings[chosen]
    for precision in wanted:
        if precision != chosen:
            draft.drop(precision)
    return chosen


def _make(draft: Draft, precision: str) -> dict[str, Any]:
    """Write the variant; the facts are what became int8, what did not, and why."""
    from edgetfm.graphs import read_graph, write_graph
    from edgetfm.quantize import RECIPES, quantize_graph

    recipe = RECIPES[precision]
    graph, facts = quantize_graph(
        read_graph(draft.path("fp32")), recipe, draft.evidence.calibration, progress=draft.progress
    )
    relative = FP32.replace(".onnx", f"{SUFFIXES[precision]}.onnx")
    file, data = write_graph(graph, draft.writer, relative)
    draft.variants[precision] = Variant(file, data, recipe.to_json())
    return facts


def _probe(cases: list[Feeds]) -> Feeds:
    """What latency is measured on: the longest case of batch 1."""
    single = [feeds for feeds in cases if next(iter(feeds.values())).shape[0] == 1]
    return max(single, key=lambda feeds: next(iter(feeds.values())).size)


def _variant_rungs(draft: Draft, precision: str, settings: dict[str, Any]) -> list[Rung]:
    """A quantized graph against PyTorch under the budget, then its own invariants."""
    draft.progress(f"comparing {precision} with {draft.subject.oracle}", 0, 0)
    subject, graph, cases = draft.subject, draft.path(precision), draft.evidence.cases
    judged = draft.evidence.judged
    answers = answers_of(graph, [*judged, *cases], settings=settings)
    comparison = subject.compare(answers[: len(judged)], draft.judged, judged)
    on = subject.judged_output
    rungs = [rung(precision, subject.oracle, comparison, bound=draft.budget, bound_on=on)]
    plain = answers_of(graph, cases, optimize=False)
    comparison = subject.compare(answers[len(judged) :], plain, cases)
    bound = DEVICE_BOUNDS[precision]
    rungs.append(rung(f"{precision} optimized", f"{precision} graph", comparison, bound=bound))
    return rungs + invariant_rungs(subject, graph, precision, cases, settings, draft.budget)


def _describe(
    draft: Draft,
    precision: str,
    rungs: list[Rung],
    timings: dict[str, Timing],
    facts: dict[str, Any],
) -> Tried:
    """One row of what was tried."""
    latency = timings[precision].median / timings["fp32"].median
    return Tried(
        precision=precision,
        bytes=draft.bytes(precision),
        measures=rungs[0].measures if rungs else {},
        missed=tuple(f"{r.name} against {r.against}: {m}" for r in rungs for m in r.missed),
        latency=latency,
        spread=timings[precision].spread / timings[precision].median,
        metric=_accuracy(draft, precision),
        facts=facts,
    )


def _accuracy(draft: Draft, precision: str) -> dict[str, float]:
    """The task's own metric, where the evidence has labels: accuracy of PyTorch and the variant."""
    labels = draft.evidence.labels
    if labels is None:
        return {}
    answers = answers_of(draft.path(precision), draft.evidence.judged)
    got = np.concatenate([f["logits"].argmax(-1) for f in answers])
    wanted = np.concatenate([f["logits"].argmax(-1) for f in draft.judged])
    return {
        "accuracy": float((got == labels).mean()),
        "pytorch_accuracy": float((wanted == labels).mean()),
        "items": len(labels),
    }


def _best(draft: Draft, quantize: str | None, prefer: str) -> str:
    """The precision to ship; BudgetError if the one asked for by name is outside the budget."""
    fp32, rest = draft.tried[0], draft.tried[1:]
    if not rest:
        return fp32.precision
    if quantize != "auto":
        (only,) = rest
        if not only.inside:
            raise BudgetError(
                f"{only.precision} is outside the budget:\n{listed(only.missed)}\n"
                f"{_blame(draft, only.precision)}"
                "give better calibration data (--calibration), a wider budget (--max-drop), or "
                "--quantize alone for the best variant inside the budget"
            )
        return only.precision
    inside = [fp32, *(t for t in rest if t.inside)]
    if prefer == "size":
        return min(inside, key=lambda t: t.bytes).precision
    fastest = min(inside, key=lambda t: t.latency or 1.0)
    margin = (fastest.spread or 0.0) + (fp32.spread or 0.0)
    tied = [t for t in inside if (t.latency or 1.0) - (fastest.latency or 1.0) <= margin]
    return min(tied, key=lambda t: t.bytes).precision


def _blame(draft: Draft, precision: str) -> str:
    """A line that names the first node of a variant that diverges from fp32, or none."""
    budget = Budget.parse(draft.budget)
    worst = min((bound for name, bound in budget.bounds if "cosine" in name), default=0.995)
    limit = math.sqrt(2 * (1 - worst))  # vectors at this cosine are this far apart
    feeds = _probe(draft.evidence.cases)
    found = first_divergence(draft.path("fp32"), draft.path(precision), feeds, limit=limit)
    return f"{found}\n" if found else ""


def _say_what_lost(draft: Draft, chosen: str, quantize: str | None) -> None:
    """Notes for the user: why fp32 won, or that int8 is no faster here."""
    rest = draft.tried[1:]
    if quantize == "auto" and chosen == "fp32":
        inside = [t for t in rest if t.inside]
        if inside:
            smallest = min(inside, key=lambda t: t.bytes)
            draft.notes.append(
                f"fp32 is the fastest here; {smallest.precision} is the smallest inside the budget "
                f"({smallest.bytes / 1e6:.1f} MB, {smallest.latency:.2f}x the time): "
                "--prefer size ships it"
            )
        else:
            reasons = "; ".join(f"{t.precision}: {', '.join(t.missed)}" for t in rest)
            draft.notes.append(f"no variant is inside the budget, fp32 ships ({reasons})")
    for tried in rest:
        if tried.precision == chosen and (tried.latency or 0.0) > 1.0:
            draft.notes.append(
                f"{chosen} is slower than fp32 on this machine ({tried.latency:.2f}x the time)"
            )


def finish(draft: Draft, manifest: Manifest, *, keep_fp32: bool) -> Bundle:
    """Replay the vectors on what ships, write the evidence, and put the bundle in place."""
    chosen = manifest.default
    cases = draft.evidence.cases[: len(draft.truth)]
    shipped = answers_of(draft.path(chosen), cases, settings=draft.session)
    write_vectors(draft.writer, cases, draft.truth, shipped, chosen)
    if chosen != "fp32" and not keep_fp32:
        draft.drop("fp32")
    component = replace(manifest.components["model"], variants=draft.variants)
    final = replace(manifest, components={"model": component}, session=draft.session)
    writer = draft.writer
    tried = [t.to_json() for t in draft.tried]
    writer.write("parity.json", json.dumps(draft.ledger.to_json(), indent=2) + "\n")
    writer.write("report.html", report_page(final, draft.ledger, tried, draft.notes))
    writer.write("README.md", model_card(final, draft.ledger, tried))
    return writer.commit(final)
