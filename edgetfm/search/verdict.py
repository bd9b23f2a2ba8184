"""Which of the variants that were made ships, and what is said of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgetfm.budget import Budget
from edgetfm.errors import BudgetError, listed
from edgetfm.quantize import Recipe
from edgetfm.quantize.targets import this_machine
from edgetfm.runtime.divergence import first_divergence
from edgetfm.search.candidates import Candidate, Tried, probe
from edgetfm.search.draft import Draft
from edgetfm.search.goal import Goal
from edgetfm.search.parts import case_of_parts
from edgetfm.stages import parts


def best_of(draft: Draft, candidates: Sequence[Candidate], goal: Goal) -> Candidate | None:
    """The candidate to ship, None for fp32; BudgetError if none is inside the budget."""
    if not goal.quantizes:
        return None
    inside = [c for c in candidates if c.inside]
    if not inside and (narrow := [c for c in candidates if c.holds]):
        best = min(narrow, key=lambda c: c.use)
        draft.notes.append(
            f"{best.name} uses {best.use:.0%} of the budget, and nothing less was found: on other "
            "data it may be outside"
        )
        return best
    if not inside:
        raise BudgetError(_nothing_inside(draft, candidates, goal))
    if goal.quantize != "auto" or goal.recipe is not None:
        return inside[0]
    if goal.targets and this_machine() not in goal.targets:
        draft.notes.append(
            f"this machine is none of the targets {', '.join(goal.targets)}: the smallest ships, "
            "for what is fastest here need not be there"
        )
        name = smallest({t.name: t for t in draft.tried if t.inside and t.name != "fp32"})
        return next(c for c in inside if c.name == name)
    rows = {t.name: t for t in draft.tried if t.inside and t.latency is not None}
    if set(rows) <= {"fp32"}:  # nothing was timed
        rows = {t.name: t for t in draft.tried if t.inside and t.name != "fp32"}
        return next(c for c in inside if c.name == smallest(rows))
    name = smallest(rows) if goal.prefer == "size" else quickest(rows)
    return next((c for c in inside if c.name == name), None)


SAME_SIZE = 0.01
"""Sizes that differ by no more than this share are the same to whoever chooses."""


def smallest(rows: Mapping[str, Tried]) -> str:
    """The name of the smallest; of the same size, the one that loses least."""
    least = min(t.bytes for t in rows.values()) * (1 + SAME_SIZE)
    return min((t for t in rows.values() if t.bytes <= least), key=lambda t: t.use).name


def quickest(rows: Mapping[str, Tried]) -> str:
    """The name of the fastest by more than the measured spread; of a tie the smallest.

    Of the same size, the one that loses least.
    """
    best = min(rows.values(), key=lambda t: t.latency or 1.0)
    tied = [
        t
        for t in rows.values()
        if (t.latency or 1.0) - (best.latency or 1.0) <= (t.spread or 0.0) + (best.spread or 0.0)
    ]
    return smallest({t.name: t for t in tied})


def _nothing_inside(draft: Draft, candidates: Sequence[Candidate], goal: Goal) -> str:
    """What to say when the budget is out of reach."""
    if not candidates:
        return f"nothing could be made of this model:\n{listed(draft.notes)}"
    closest = min(candidates, key=lambda c: c.use)
    lines = [
        f"{closest.name} is outside the budget {draft.budget}:\n{listed(closest.missed)}",
        _blame(draft, closest),
    ]
    others = [c for c in candidates if c is not closest]
    if others:
        lines.append(f"further from it: {', '.join(c.name for c in others)}")
    auto = "" if goal.quantize == "auto" else ", or ask for auto, the best that is inside"
    lines += draft.notes
    lines.append(
        "give better calibration data (--calibration), a wider budget (--max-drop)"
        f"{auto}; an export without --quantize ships the float32 graph"
    )
    return "\n".join(line for line in lines if line)


def _blame(draft: Draft, candidate: Candidate) -> str:
    """A line that names the first node of a candidate that diverges from fp32, or none."""
    budget = Budget.parse(draft.budget)
    worst = min((bound for name, bound in budget.bounds if "cosine" in name), default=0.995)
    limit = math.sqrt(2 * (1 - worst))  # vectors at this cosine are this far apart
    feeds = case_of_parts(draft.path("fp32"), probe(draft.evidence.cases))
    made = parts(candidate.path)
    for name, path in parts(draft.path("fp32")).items():
        if found := first_divergence(path, made[name], feeds[name], limit=limit):
            return str(found)
    return ""


def say_what_lost(draft: Draft, best: Candidate | None, goal: Goal) -> None:
    """Notes for the user: why fp32 won, or that what ships is no faster here."""
    rows = {t.name: t for t in draft.tried}
    if best is None and goal.quantizes:
        small = rows[smallest({n: t for n, t in rows.items() if t.inside and n != "fp32"})]
        draft.notes.append(
            f"fp32 is the fastest here; {small.name} is the smallest inside the budget "
            f"({small.bytes / 1e6:.1f} MB, {small.latency or 0:.2f}x the time): "
            "--prefer size ships it"
        )
    if best is not None and (rows[best.name].latency or 0.0) > 1.0:
        draft.notes.append(
            f"{best.name} is slower than fp32 on this machine "
            f"({rows[best.name].latency:.2f}x the time)"
        )
    if best is not None and (left := _nodes_left(best.recipe)):
        draft.notes.append(left)


def _nodes_left(recipe: Recipe) -> str:
    """Which nodes a search left out of int8, '' if none."""
    said = []
    for names, where in ((recipe.by_block, "in 8-bit blocks"), (recipe.keep_float, "in float32")):
        if names:
            said.append(f"{len(names)} of the products are left {where}: {', '.join(names)}")
    return "; ".join(said)
