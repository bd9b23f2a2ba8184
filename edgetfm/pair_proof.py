"""That an encoder-decoder answers the same however a target is cut into steps.

A first step makes the keys and values of the source, later ones read what was kept of it: both
branches of the decoder's graph are held against each other here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from edgetfm.budget import FLOAT_BOUND
from edgetfm.ledger import Rung, rung
from edgetfm.parity import Comparison
from edgetfm.proof import DEVICE_BOUNDS, WEIGHT_ONLY, Subject
from edgetfm.quantize.float_activations import with_float_activations
from edgetfm.runtime.encoder_decoder import (
    EncoderDecoder,
    in_two_parts,
    open_graph,
    token_by_token,
)
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.session import without_spinning
from edgetfm.signature import TARGET, Feeds
from edgetfm.stages import Graph, Pair, graph_of, parts


def step_rungs(
    subject: Subject,
    model: EncoderDecoder,
    precision: str,
    cases: Sequence[Feeds],
    answers: Sequence[Feeds],
) -> list[Rung]:
    """The same logits in float whatever the steps: in two parts, and token by token.

    answers: those of the model to the cases as a whole.
    """
    halves, steps = Comparison(subject.task.outputs), Comparison(subject.task.outputs)
    for feeds, whole in zip(cases, answers, strict=True):
        tokens = subject.of_tokens(feeds)
        batch, length = feeds[TARGET].shape
        firsts = {1, length // 2, length - 1} if batch == 1 and length > 1 else set()
        for first in sorted(firsts):
            halves.add(in_two_parts(model, feeds, first), whole, *tokens)
        steps.add(token_by_token(model, feeds, max(1, length // 2)), whole, *tokens)
    bound = DEVICE_BOUNDS["fp16"] if precision == "fp16" else FLOAT_BOUND
    found = [(f"{precision} token by token", steps)]
    if halves.measures():
        found.insert(0, (f"{precision} in two parts", halves))
    return [rung(name, f"{precision} whole", seen, bound=bound) for name, seen in found]


def variant_step_rungs(
    subject: Subject,
    graph: Pair,
    precision: str,
    cases: Sequence[Feeds],
    settings: dict[str, Any],
    judged: Sequence[Feeds],
    wanted: Sequence[Feeds],
    budget: str,
) -> list[Rung]:
    """The steps of a variant: strictly where it computes in float, by the budget as it ships.

    judged, wanted: the texts that the budget is about and the oracle's answers to them.
    """

    def opened(pair: Graph) -> EncoderDecoder:
        model = open_graph(pair, settings=without_spinning(settings), threads=1)
        assert isinstance(model, EncoderDecoder)
        return model

    def in_float(pair: Graph, name: str) -> list[Rung]:
        model = opened(pair)
        return step_rungs(subject, model, name, cases, [model.run(feeds) for feeds in cases])

    if precision == "fp16":
        return in_float(graph, precision)
    rungs = []
    if precision in WEIGHT_ONLY:
        with ExitStack() as stack:
            same = {
                n: stack.enter_context(with_float_activations(p)) for n, p in parts(graph).items()
            }
            rungs = in_float(graph_of(same), f"{precision} with float activations")
        return_freed(cycles=False)
    model = opened(graph)
    rungs.append(_as_shipped(subject, model, precision, judged, wanted, budget))
    del model
    return_freed(cycles=False)
    return rungs


def _as_shipped(
    subject: Subject,
    model: EncoderDecoder,
    precision: str,
    judged: Sequence[Feeds],
    wanted: Sequence[Feeds],
    budget: str,
) -> Rung:
    """Each target token by token, as it is when the model writes it, against the oracle."""
    comparison = Comparison(subject.task.outputs)
    for feeds, truth in zip(judged, wanted, strict=True):
        comparison.add(token_by_token(model, feeds, 1), truth, *subject.of_tokens(feeds))
    return rung(
        f"{precision} token by token",
        subject.oracle,
        comparison,
        bound=budget,
        bound_on=subject.judged_output if budget else "",
        note="a step's activations are rounded by their own range: bounded by the budget"
        if precision == "int8"
        else "",
    )
