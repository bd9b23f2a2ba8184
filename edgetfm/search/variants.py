"""The middle of the work: make what is wanted of the float graph, and keep the best of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from edgetfm.budget import Budget
from edgetfm.bundle import Bundle
from edgetfm.errors import BudgetError, ParityError, listed
from edgetfm.graphs import read_graph, write_graph
from edgetfm.invariants import shipped_float_rungs
from edgetfm.manifest import Manifest, Variant, file_of
from edgetfm.merged import unmerge
from edgetfm.proof import answers_of
from edgetfm.quantize import RECIPES
from edgetfm.quantize.saturation import overflows
from edgetfm.reporting.report import model_card, report_page
from edgetfm.runtime.machine import runtime_version
from edgetfm.runtime.profile import profile
from edgetfm.runtime.tuning import (
    CANDIDATES,
    Timing,
    choose_session,
    compare_latency,
    fastest,
    too_large,
)
from edgetfm.search.candidates import Candidate, Tried, Workshop, probe, recipe_called
from edgetfm.search.draft import Draft
from edgetfm.search.goal import Goal
from edgetfm.search.metric import asked
from edgetfm.search.parts import case_of_parts
from edgetfm.search.recipe_file import read_recipe
from edgetfm.search.search import journal_for, search
from edgetfm.search.verdict import best_of, say_what_lost
from edgetfm.signature import Feeds
from edgetfm.stages import Graph, parts
from edgetfm.vectors import write_vectors


def choose(draft: Draft, goal: Goal, output: Path) -> str:
    """Make the wanted variants and return the precision to ship.

    One that is asked for by name, or by a recipe, ships or raises BudgetError. 'auto' keeps the
    fastest (`prefer` 'speed') or smallest inside the budget, fp32 if none beats it, and raises
    BudgetError if none is inside. output: where the bundle goes; a search that is interrupted
    leaves there what the next one needs not ask again.
    """
    with TemporaryDirectory(prefix="edgetfm-") as folder:
        kept = None if goal.recipe is None else read_recipe(goal.recipe)
        session = None if kept is None else kept.session
        deadline = time.monotonic() + goal.seconds
        shop = Workshop(draft, Path(folder), goal.targets, deadline, session)
        if kept is not None:
            draft.notes += kept.differences(draft.evidence.facts)
            shop.make(kept.recipe.name, kept.recipe, f"the recipe of {goal.recipe}", last=True)
        elif goal.quantize == "auto":
            journal = journal_for(output, **_about(draft, goal))
            if journal.found:
                draft.notes.append(f"the search went on with {journal.found} earlier results")
            search(shop, goal.prefer, journal)
            if not shop.out_of_time():
                journal.done()
        elif goal.quantize is not None:
            recipe = recipe_called(goal.quantize, draft)
            shop.make(goal.quantize, recipe, "asked for by name", last=True)
        timings, settings = _timings(draft, shop.candidates)
        draft.tried = [_fp32(draft), *(_describe(c, timings) for c in shop.candidates)]
        best = best_of(draft, shop.candidates, goal)
        if best is not None:
            _test(draft, best)
        say_what_lost(draft, best, goal)
        if best is None:
            draft.session = settings
            return "fp32"
        draft.ledger.rungs += best.rungs
        draft.session = best.settings
        precision = best.recipe.precision
        made_by = best.recipe.to_json()
        draft.variants[precision] = {
            name: Variant(
                *write_graph(read_graph(path), draft.writer, file_of(name, precision)), made_by
            )
            for name, path in parts(best.path).items()
        }
        _saturation(draft, best, shop.maker.feeds)
        _profile(draft, best)
        return precision


def _about(draft: Draft, goal: Goal) -> dict[str, Any]:
    """What the results of a search depend on."""
    return {
        "fp32": [draft.writer.entries[name].sha256 for name in draft.files("fp32")],
        "calibration": draft.evidence.facts,
        "budget": draft.budget,
        "labelled": None if draft.metric is None else draft.metric.fingerprint,
        "targets": goal.targets,
        "recipes": [RECIPES[name].to_json() for name in ("int8", "int4")],
        "versions": [version("edgetfm"), runtime_version()],
    }


MOST_TIMED = 2 << 30
"""Bytes of graphs that are timed side by side; beyond it only those inside the budget are."""


def _timings(
    draft: Draft, candidates: Sequence[Candidate]
) -> tuple[dict[str, Timing], dict[str, Any]]:
    """The latency of fp32 and the candidates, by name, and the settings that suit fp32.

    Without candidates there is nothing to compare, and no latency; nor beside a float32 graph
    beyond MOST_TIMED, which a session would copy.
    """
    feeds = probe(draft.evidence.cases)
    if draft.bytes("fp32") > MOST_TIMED:
        draft.notes.append(
            f"nothing was timed: the float32 graph is larger than {MOST_TIMED >> 30} GB"
        )
        return {}, {}
    if not candidates or too_large(draft.bytes("fp32")):
        settings = choose_session(draft.path("fp32"), feeds, progress=draft.progress)
        if not candidates:
            return {}, settings
        forms: dict[str, dict[str, Any]] = {"default": settings}
    else:  # its settings are chosen in the rounds that time the others
        forms = CANDIDATES
    few = sum(c.bytes for c in candidates) <= MOST_TIMED
    graphs: dict[tuple[str, str], tuple[Graph, Mapping[str, Any]]] = {
        ("", form): (draft.path("fp32"), forms[form]) for form in forms
    }
    graphs |= {(c.name, ""): (c.path, c.settings) for c in candidates if few or c.inside}
    timings = compare_latency(graphs, feeds, progress=draft.progress)
    form = fastest({form: timings["", form] for form in forms})
    others = {name: timing for (name, _), timing in timings.items() if name}
    return {"fp32": timings["", form], **others}, forms[form]


def _fp32(draft: Draft) -> Tried:
    """The row of what everything is compared with."""
    metric = {} if draft.metric is None else draft.metric.of_reference()
    return Tried(
        "fp32", "fp32", draft.bytes("fp32"), {}, (), latency=1.0, spread=0.0, metric=metric
    )


def _describe(candidate: Candidate, timings: dict[str, Timing]) -> Tried:
    """One row of what was tried."""
    timing = timings.get(candidate.name)
    ratio = None if timing is None else timing.ratio_to(timings["fp32"])
    return Tried(
        name=candidate.name,
        precision=candidate.recipe.precision,
        bytes=candidate.bytes,
        measures=candidate.rungs[0].measures if candidate.rungs else {},
        missed=candidate.missed,
        use=candidate.use,
        latency=None if ratio is None else ratio.median,
        spread=None if ratio is None else ratio.spread,
        metric=candidate.metric,
        recipe=candidate.recipe.to_json(),
        facts=candidate.facts,
        note=candidate.note,
    )


def _test(draft: Draft, best: Candidate) -> None:
    """The metric on the half of the data that nothing was chosen by; BudgetError if missed."""
    if draft.metric is None:
        return
    model = asked(best.path, best.settings)
    found = draft.metric.test_rung(best.recipe.precision, model, Budget.parse(draft.budget))
    if found is None:
        return
    best.rungs.append(found)
    best.metric["test"] = found.metric
    if found.missed:
        raise BudgetError(
            f"{best.name} is inside the budget {draft.budget} on the half of --eval that it was "
            f"chosen by, but not on the other:\n{listed(found.missed)}\n"
            "give more labelled data, or a wider budget (--max-drop)"
        )


def _saturation(draft: Draft, best: Candidate, feeds: Mapping[str, Sequence[Feeds]]) -> None:
    """What overflows on CPUs that add pairs in 16 bits, unless it was cured."""
    if "saturation" in best.facts:
        return
    found = [
        overflow
        for name, path in parts(best.path).items()
        for overflow in overflows(
            unmerge(read_graph(path))[0], feeds[name], progress=draft.progress
        )
    ]
    best.facts["saturation"] = {"nodes": [overflow.to_json() for overflow in found]}
    if found:
        draft.notes.append(
            f"on x86 CPUs without VNNI {len(found)} of the products would overflow and answer "
            f"wrong, {max(found, key=lambda o: o.error).node} by "
            f"{max(o.error for o in found):.2g} of its size: --target x86-avx2 cures them"
        )


def _profile(draft: Draft, best: Candidate) -> None:
    """Which nodes take the time and which fusions matched, for the report.

    Of an encoder-decoder that is the step of the decoder which reads a whole target.
    """
    draft.progress("profiling what ships", 0, 0)
    feeds = case_of_parts(best.path, probe(draft.evidence.cases))
    name, path = list(parts(best.path).items())[-1]
    found = profile(path, feeds[name], settings=best.settings)
    best.facts["profile"] = found.to_json()


def finish(draft: Draft, manifest: Manifest, *, keep_fp32: bool) -> Bundle:
    """Replay the vectors on what ships, write the evidence, and put the bundle in place."""
    chosen = manifest.default
    cases = draft.evidence.cases[: len(draft.truth)]
    shipped = answers_of(draft.path(chosen), cases, settings=draft.session)
    if chosen == "fp32":
        graph = draft.path(chosen)
        found = shipped_float_rungs(draft.subject, graph, cases, draft.truth, shipped)
        draft.ledger.rungs += found
        if missed := [miss for rung in found for miss in rung.missed]:
            raise ParityError(f"the graph answers differently as it ships:\n{listed(missed)}")
    exact = chosen == "fp32" or keep_fp32
    write_vectors(
        draft.writer, cases, draft.truth, shipped, chosen, subject=draft.subject, exact=exact
    )
    if chosen != "fp32" and not keep_fp32:
        draft.drop("fp32")
    writer = draft.writer
    final = replace(
        manifest, components=draft.components, session=draft.session, files=writer.entries
    )
    tried = [t.to_json() for t in draft.tried]
    writer.write("parity.json", json.dumps(draft.ledger.to_json(), indent=2) + "\n")
    writer.write("report.html", report_page(final, draft.ledger, tried, draft.notes))
    writer.write("README.md", model_card(final, draft.ledger, tried, draft.notes))
    return writer.commit(final)
