"""The search behind `--quantize`: which graphs are made, in which order, until one can ship.

Plain int8 first. If it is well inside the budget, a form that costs less time is tried. If it is
outside, all products in 8-bit blocks are made, which takes no search; then each node's effect on
the outputs is measured and the worst go back to float, or to blocks where that is enough.
Decoders have a search of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgetfm.budget import Budget
from edgetfm.graphs import read_graph
from edgetfm.proof import answers_of
from edgetfm.quantize import RECIPES
from edgetfm.quantize.search import Effect, Sensitivity, find_sensitive
from edgetfm.quantize.switchboard import Switchboard
from edgetfm.quantize.targets import liked
from edgetfm.search.attempts import attempt
from edgetfm.search.candidates import Candidate, Workshop, recipe_called
from edgetfm.search.decoders import search_decoder
from edgetfm.search.journal import Journal
from edgetfm.signature import Feeds

ROOM = 0.5
"""A cheaper form must stay within this share of the budget, and is tried only where int8 itself
uses half of that: what is not asked for may not bring an answer near the edge."""

MARGIN = 0.8
"""The share of the budget that a set of nodes chosen by the data it is judged by may use: the
smallest that just passes on these items would fail on the next ones as often as not."""

AIM = 0.7
"""The use at which the search for nodes stops: it looks at few items, the budget at others."""

TUNING_BATCHES = 8
"""Calibration batches on which effects are measured: each is run once for every node."""

NEVER = 1e9
"""A gain that no Mul reaches: smoothing only where it costs nothing."""

Nodes = tuple[str, ...]

GROWTH = 1.6
"""By how much more nodes are left out when what sufficed on the few items does not on the rest."""


def search(shop: Workshop, prefer: str, journal: Journal) -> None:
    """Make candidates until one is inside the budget and nothing cheaper is left to try.

    Those made stand in `shop.candidates`; one that onnxruntime does not run is noted and passed
    over. Out of time, no new one is begun.
    """
    likes = liked(shop.targets)
    task = shop.draft.subject.task
    if task.generates and not task.seq2seq:
        search_decoder(shop, journal)
        return
    if "int8" not in likes:
        for name in likes:
            made = attempt(shop, name, recipe_called(name, shop.draft), "what the targets like")
            if made is not None and made.inside:
                return
        return
    if prefer == "size" and "int4" in likes:
        attempt(shop, "int4", recipe_called("int4", shop.draft), "the smallest")
    base = attempt(shop, "int8", RECIPES["int8"], "every matrix product in int8")
    if base is not None and base.inside:
        if base.use <= ROOM / 2 and prefer == "speed":
            cheaper = replace(RECIPES["int8"], min_gain=NEVER)
            note = "without the Muls that smoothing adds"
            attempt(shop, "int8, free smoothing", cheaper, note, room=ROOM)
        return
    if "int8-weight" in likes:
        note = "nothing depends on the scale of a whole activation"
        attempt(shop, "int8-weight", recipe_called("int8-weight", shop.draft), note)
    if task.seq2seq:  # no board has the products of two graphs
        return
    if base is not None and not shop.out_of_time():
        _repair(shop, base, journal)


def _repair(shop: Workshop, base: Candidate, journal: Journal) -> None:
    """Leave the most sensitive nodes out of int8, more and more of them until it suffices."""
    found = _sensitivity(shop, base, journal)
    fewer = 0
    for kept in _growing(found):
        made = _in_float(shop, base, found, kept)
        if made is None:
            return
        if made.inside:
            kept = _fewest(shop, base, found, fewer, kept)
            blocks = replace(base.recipe, by_block=kept)
            note = "the same in 8-bit blocks"
            attempt(shop, f"int8, {_count(kept)} in blocks", blocks, note, MARGIN)
            return
        fewer = len(kept)


def _in_float(shop: Workshop, base: Candidate, found: Sensitivity, kept: Nodes) -> Candidate | None:
    """The candidate with these nodes in float32, and what was found out about all of them."""
    real = replace(base.recipe, keep_float=kept)
    note = "the nodes that cost the most accuracy for their share of the work"
    made = attempt(shop, f"int8, {_count(kept)} in float", real, note, MARGIN)
    if made is not None:
        made.facts["search"] = found.log
        made.facts["sensitivity"] = {n: float(f"{g:.3g}") for n, g in found.gains.items()}
    return made


def _fewest(shop: Workshop, base: Candidate, found: Sensitivity, fewer: int, kept: Nodes) -> Nodes:
    """By bisection the smallest part of `kept` that is inside; `fewer` of them are known not to."""
    while len(kept) - fewer > 1:
        middle = kept[: (fewer + len(kept)) // 2]
        made = _in_float(shop, base, found, middle)
        if made is None:
            break
        if made.inside:
            kept = middle
        else:
            fewer = len(middle)
    return kept


def _count(kept: Iterable[str]) -> str:
    number = len(list(kept))
    return "1 node" if number == 1 else f"{number} nodes"


def _growing(found: Sensitivity) -> Iterator[Nodes]:
    """The nodes that were found, then more in the order of their effect, but not all of them."""
    kept = list(found.kept) or list(found.order[:1])
    while len(kept) < len(found.order):
        yield tuple(kept)
        rest = [name for name in found.order if name not in kept]
        kept += rest[: max(1, round(len(kept) * (GROWTH - 1)))]


def _sensitivity(shop: Workshop, base: Candidate, journal: Journal) -> Sensitivity:
    """What each product in int8 does to the outputs, on a few calibration batches."""
    draft = shop.draft
    data = draft.evidence.calibration
    items = data[:: max(1, len(data) // TUNING_BATCHES)][:TUNING_BATCHES]
    graph = draft.path("fp32")
    assert isinstance(graph, Path)
    truth = answers_of(graph, items)
    board = Switchboard(
        read_graph(graph),
        base.recipe,
        draft.evidence.calibration,
        memo=shop.memo,
        progress=draft.progress,
    )
    with board:

        def measure(kept: frozenset[str]) -> Effect:
            question = json.dumps(sorted(kept))
            if (known := Effect.read(journal.get(question))) is not None:
                return known
            effect = _effect(shop, board, kept, items, truth)
            journal.put(question, [effect.loss, effect.use])
            return effect

        try:
            return find_sensitive(
                board.names,
                board.costs,
                measure,
                target=AIM,
                out_of_time=shop.out_of_time,
                progress=draft.progress,
            )
        finally:
            journal.save()


def _effect(
    shop: Workshop, board: Switchboard, kept: frozenset[str], items: list[Feeds], truth: list[Feeds]
) -> Effect:
    draft = shop.draft
    answers = [board.run(feeds, kept) for feeds in items]
    measures = draft.subject.compare(answers, truth, items).measures()
    loss = sum(1 - m.cosine + (m.kl or 0.0) for m in measures.values())
    use = draft.use(measures)
    if draft.metric is not None and Budget.parse(draft.budget).drop is not None:
        value = draft.metric.measure(lambda feeds: board.run(feeds, kept))
        use = max(use, draft.metric.use(value, Budget.parse(draft.budget)))
    return Effect(loss, use)


def journal_for(output: Path, **about: Any) -> Journal:
    """The journal of a search whose bundle goes to `output`, beside it."""
    return Journal(output.parent / f".{output.name}.search.json", **about)
