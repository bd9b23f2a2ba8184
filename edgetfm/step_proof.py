"""That a decoder answers the same however a text is cut into steps, as it is when it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm import pair_proof
from edgetfm.beside import still_wanted
from edgetfm.budget import FLOAT_BOUND
from edgetfm.ledger import Rung, rung
from edgetfm.parity import Comparison
from edgetfm.proof import DEVICE_BOUNDS, WEIGHT_ONLY, Subject, answer_to
from edgetfm.quantize.float_activations import with_float_activations
from edgetfm.quantize.spool import space
from edgetfm.runtime.encoder_decoder import EncoderDecoder
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.session import Session, make_session, without_spinning
from edgetfm.runtime.steps import in_two_parts, token_by_token
from edgetfm.signature import Array, Feeds
from edgetfm.stages import Graph, Pair

ENDS = 16
"""Tokens of the beginning that is cut behind its first token and before its last, too: where in a
text a cut is tells most by the past that it leaves, and a text's half leaves a long one."""
LAST_STEPS = 4
"""Tokens of each row that are asked one at a time where float answers are compared."""

CUT = (
    f"each text alone is cut in its middle, and its first {ENDS} tokens behind the first of them "
    "and before the last"
)
STEPPED = (
    f"the last {LAST_STEPS} tokens of the longest text and of every row of a batch, one a step"
)

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
    longest = max(feeds["input_ids"].shape[1] for feeds in cases)
    for feeds, whole in zip(cases, answers, strict=True):
        mask = feeds["attention_mask"]
        batch, length = feeds["input_ids"].shape
        for first, end in _cuts(length) if batch == 1 else ():
            some, answer = _beginning(feeds, end), {"logits": whole["logits"][:, :end]}
            parts.add(in_two_parts(session, some, first, space), answer, some["attention_mask"])
        if batch == 1 < length < longest:
            continue  # one at a time, the last tokens of a longer text stand for it
        lengths = mask.sum(axis=1)
        prompts = np.maximum(lengths - LAST_STEPS, 1)
        answer = token_by_token(session, feeds, whole, prompts, space)
        steps.add(answer, whole, mask)
    bound = DEVICE_BOUNDS["fp16"] if precision == "fp16" else FLOAT_BOUND
    return [
        rung(f"{precision} {how}", f"{precision} whole", seen, bound=bound, note=note)
        for how, seen, note in (("in two parts", parts, CUT), ("token by token", steps, STEPPED))
    ]


def _cuts(length: int) -> list[tuple[int, int]]:
    """Where a text is cut in two, and how much of it is asked: all of it once, its beginning too.

    No token knows those behind it, so the beginning has the answers that it has in the whole.
    """
    end = min(length, ENDS)
    cuts = {(1, end), (end - 1, end), (length // 2, length)}
    return sorted((first, end) for first, end in cuts if 0 < first < end)


def _beginning(feeds: Feeds, end: int) -> Feeds:
    return {name: array[:, :end] for name, array in feeds.items()}


def variant_steps(
    subject: Subject,
    graph: Graph,
    precision: str,
    cases: Sequence[Feeds],
    settings: dict[str, Any],
    judged: Sequence[Feeds],
    answers: Sequence[Feeds],
    wanted: Sequence[Feeds],
    budget: str,
) -> list[Callable[[int], list[Rung]]]:
    """The steps of a variant: strictly where it computes in float, by the budget as it ships.

    What is to be done for `side_by_side`, the longest first; its rungs are in that order. A
    variant in blocks is asked twice: with float activations, where a cache that is wrong
    anywhere is outside the float bound, and as it is. That is held against its answers to whole
    texts, at the tokens that were read in later steps alone: what the same kernels read at once
    would hide what they lose. And against the oracle's at every token, since twice the budget away
    from it is too far. judged: the texts that the budget is about; answers: the variant's to them
    as a whole; wanted: the oracle's.
    """
    if isinstance(graph, Pair):
        return [
            lambda _: pair_proof.variant_step_rungs(
                subject, graph, precision, cases, settings, judged, wanted, budget
            )
        ]

    def in_float(path: Path, name: str, threads: int) -> list[Rung]:
        session = make_session(path, settings=without_spinning(settings), threads=threads)
        found = step_rungs(subject, session, name, cases, [answer_to(session, f) for f in cases])
        del session
        return_freed(cycles=False)
        return found

    def strictly(threads: int) -> list[Rung]:
        with with_float_activations(graph) as same:
            return in_float(same, f"{precision} with float activations", threads)

    def as_shipped(threads: int) -> list[Rung]:
        session = make_session(graph, settings=without_spinning(settings), threads=threads)
        found = _as_shipped(subject, session, precision, judged, answers, wanted, budget)
        del session
        return_freed(cycles=False)
        return found

    if precision == "fp16":
        return [partial(in_float, graph, precision)]
    return [as_shipped, strictly] if precision in WEIGHT_ONLY else [as_shipped]


def _as_shipped(
    subject: Subject,
    session: Session,
    precision: str,
    judged: Sequence[Feeds],
    answers: Sequence[Feeds],
    wanted: Sequence[Feeds],
    budget: str,
) -> list[Rung]:
    """Each text in two parts and token by token, against the oracle and the variant's whole."""
    own, far = (
        {how: Comparison(subject.task.outputs) for how in ("in two parts", "token by token")}
        for _ in range(2)
    )
    for feeds, whole, exact in zip(judged, answers, wanted, strict=True):
        still_wanted()
        mask, ids = feeds["attention_mask"], feeds["input_ids"]
        lengths = mask.sum(axis=1)
        halves, prompts = np.maximum(lengths // 2, 1), np.maximum(lengths - lengths // 4, 1)
        answered = {
            "in two parts": (_rows_in_two(session, feeds, whole, halves), halves),
            "token by token": (
                token_by_token(session, feeds, whole, prompts, space),
                prompts - 1,
            ),
        }
        for how, (answer, first) in answered.items():
            far[how].add(answer, exact, mask, ids)
            own[how].add(answer, whole, _from(first, mask), ids)
    return [
        rung(
            f"{precision} {how}",
            against,
            comparisons[how],
            bound=budget,
            bound_on=subject.judged_output,
            note=AS_SHIPPED,
        )
        for against, comparisons in ((subject.oracle, far), (f"{precision} whole", own))
        for how in comparisons
    ]


def _from(first: Array, mask: Array) -> Array:
    """The tokens of a mask [batch, sequence] that stand at these places or behind them, [batch]."""
    return np.where(np.arange(mask.shape[1]) >= first[:, None], mask, 0)


def _rows_in_two(session: Session, feeds: Feeds, whole: Feeds, halves: Array) -> Feeds:
    """Each row alone and in two parts: a graph takes no batch where more than a token follows."""
    ids, lengths = feeds["input_ids"], feeds["attention_mask"].sum(axis=1)
    logits = space(whole["logits"].shape, whole["logits"].dtype)
    logits[...] = whole["logits"]
    for row, (half, length) in enumerate(zip(halves, lengths, strict=True)):
        answer = in_two_parts(session, {"input_ids": ids[row : row + 1, :length]}, int(half), space)
        logits[row, :length] = answer["logits"][0]
    return {"logits": logits}
