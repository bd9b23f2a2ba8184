"""That a decoder answers the same however a text is cut into steps, as it is when it writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm import pair_proof
from edgetfm.budget import FLOAT_BOUND
from edgetfm.ledger import Rung, rung
from edgetfm.parity import Comparison
from edgetfm.proof import DEVICE_BOUNDS, Subject, on_disk
from edgetfm.quantize.float_activations import with_float_activations
from edgetfm.runtime.encoder_decoder import EncoderDecoder
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.session import Session, make_session, without_spinning
from edgetfm.runtime.steps import in_two_parts, token_by_token
from edgetfm.signature import Array, Feeds
from edgetfm.stages import Graph, Pair

WEIGHT_ONLY = ("int4", "int8-weight")
USUAL = 128
"""Tokens of a text that is cut at its ends too."""
LAST_STEPS = 4
"""Tokens of each row that are asked one at a time where float answers are compared."""

AS_SHIPPED = (
    "in int8 activations the last bit of a float decides a rounding, which layers on has grown to "
    "the size of all rounding: bounded by the budget"
)


def step_rungs(
    subject: Subject,
    session: Session | EncoderDecoder,
    precision: str,
    cases: Sequence[Feeds],
    answers: Sequence[Feeds],
) -> list[Rung]:
    """The same logits of a graph in float whatever the steps: in two parts, and token by token.

    answers: those of the session to the cases as a whole.
    """
    if isinstance(session, EncoderDecoder):
        return pair_proof.step_rungs(subject, session, precision, cases, answers)
    parts, steps = Comparison(subject.task.outputs), Comparison(subject.task.outputs)
    for feeds, whole in zip(cases, answers, strict=True):
        mask = feeds["attention_mask"]
        batch, length = feeds["input_ids"].shape
        for first in _cuts(length) if batch == 1 else ():
            parts.add(in_two_parts(session, feeds, first), whole, mask)
        lengths = mask.sum(axis=1)
        answer = token_by_token(session, feeds, whole, np.maximum(lengths - LAST_STEPS, 1))
        steps.add(answer, whole, mask)
    bound = DEVICE_BOUNDS["fp16"] if precision == "fp16" else FLOAT_BOUND
    return [
        rung(f"{precision} in two parts", f"{precision} whole", parts, bound=bound),
        rung(f"{precision} token by token", f"{precision} whole", steps, bound=bound),
    ]


def _cuts(length: int) -> list[int]:
    """Where a text is cut in two; a long one once, which is what it is there for."""
    if length > USUAL:
        return [length // 2]
    return sorted({1, length // 2, length - 1} - {0, length})


def variant_step_rungs(
    subject: Subject,
    graph: Graph,
    precision: str,
    cases: Sequence[Feeds],
    settings: dict[str, Any],
    judged: Sequence[Feeds],
    answers: Sequence[Feeds],
    wanted: Sequence[Feeds],
    budget: str,
) -> list[Rung]:
    """The steps of a variant: strictly where it computes in float, by the budget as it ships.

    A variant in blocks is asked twice: with float activations, where a cache that is wrong
    anywhere is outside the float bound, and as it is. judged: the texts that the budget is about;
    answers: the variant's to them as a whole; wanted: the oracle's.
    """
    if isinstance(graph, Pair):
        return pair_proof.variant_step_rungs(
            subject, graph, precision, cases, settings, judged, wanted, budget
        )

    def opened(path: Path) -> Session:
        return make_session(path, settings=without_spinning(settings), threads=2)

    def in_float(path: Path, name: str) -> list[Rung]:
        session = opened(path)
        return step_rungs(subject, session, name, cases, [on_disk(session.run(f)) for f in cases])

    if precision == "fp16":
        return in_float(graph, precision)
    rungs = []
    if precision in WEIGHT_ONLY:
        with with_float_activations(graph) as same:
            rungs = in_float(same, f"{precision} with float activations")
        return_freed()
    session = opened(graph)
    parts, tokens = Comparison(subject.task.outputs), Comparison(subject.task.outputs)
    for feeds, whole, truth in zip(judged, answers, wanted, strict=True):
        mask, ids = feeds["attention_mask"], feeds["input_ids"]
        lengths = mask.sum(axis=1)
        halves, prompts = np.maximum(lengths // 2, 1), np.maximum(lengths - lengths // 4, 1)
        parts.add(_rows_in_two(session, feeds, whole, halves), truth, mask, ids)
        tokens.add(token_by_token(session, feeds, whole, prompts), truth, mask, ids)
    return rungs + [
        rung(
            f"{precision} {how}",
            subject.oracle,
            comparison,
            bound=budget,
            bound_on=subject.judged_output,
            note=AS_SHIPPED,
        )
        for how, comparison in (("in two parts", parts), ("token by token", tokens))
    ]


def _rows_in_two(session: Session, feeds: Feeds, whole: Feeds, halves: Array) -> Feeds:
    """Each row alone and in two parts: a graph takes no batch where more than a token follows."""
    ids, lengths = feeds["input_ids"], feeds["attention_mask"].sum(axis=1)
    logits = whole["logits"].copy()
    for row, (half, length) in enumerate(zip(halves, lengths, strict=True)):
        answer = in_two_parts(session, {"input_ids": ids[row : row + 1, :length]}, int(half))
        logits[row, :length] = answer["logits"][0]
    return {"logits": logits}
