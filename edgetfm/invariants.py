"""The rungs of a float32 graph, and what every graph keeps to: neighbours, padding and threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgetfm.beside import still_wanted
from edgetfm.budget import FLOAT_BOUND
from edgetfm.ledger import Rung, rung
from edgetfm.parity import Comparison
from edgetfm.proof import (
    DEVICE_BOUNDS,
    Run,
    Subject,
    answer_to,
    answers_of,
    of_float,
    session_run,
    side_by_side,
    with_tables_in_place,
)
from edgetfm.runtime.encoder_decoder import EncoderDecoder, open_graph
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.session import Session, without_spinning
from edgetfm.signature import FRAMES, SAMPLES, SEQUENCE, TARGET_MASK, Array, Feeds, is_batch
from edgetfm.stages import Graph
from edgetfm.step_proof import step_rungs

IN_PLACE = "its weights were read where they lie in the file: neither packed nor folded"

NOT_TURNED = (
    "the graph as written was asked with its head's product by the table as it lies: the file "
    "transposes the table first"
)


def shipped_float_rungs(
    subject: Subject,
    graph: Graph,
    cases: Sequence[Feeds],
    truth: Sequence[Feeds],
    shipped: Sequence[Feeds],
) -> list[Rung]:
    """The answers of a large float32 graph with the settings it ships with, which it was not
    proven under; none of any other. shipped: those answers."""
    if not of_float(graph):
        return []
    compared = subject.compare(shipped, truth, cases)
    return [rung("fp32 as it ships", subject.oracle, compared, bound=FLOAT_BOUND)]


def float_rungs(
    subject: Subject,
    graph: Graph,
    cases: Sequence[Feeds],
    truth: Sequence[Feeds],
    settings: dict[str, Any],
) -> list[Rung]:
    """The fp32 graph against its oracle, its optimized form against it, and the invariants.

    truth: the oracle's answers to the first of the cases.
    """
    asked, given = len(truth), settings
    settings = dict(of_float(graph, settings))

    held: list[Session | EncoderDecoder] = []
    differs: list[str] = []

    def ask_optimized(_: int) -> list[Feeds]:
        session = open_graph(graph, settings=without_spinning(settings), threads=2)
        held.append(session)
        return [answer_to(session, feeds) for feeds in cases]

    def ask_written(threads: int) -> list[Feeds]:
        if settings == given:
            return answers_of(graph, cases, optimize=False, settings=settings, threads=threads)
        with with_tables_in_place(graph) as plain:
            differs.extend([NOT_TURNED] if plain != graph else [])
            return answers_of(plain, cases, optimize=False, settings=settings, threads=threads)

    written, answers = side_by_side(graph, ask_written, ask_optimized)
    comparison = subject.compare(written[:asked], truth, cases[:asked])
    note = "; ".join(differs)
    rungs = [rung("fp32 graph", subject.oracle, comparison, bound=FLOAT_BOUND, note=note)]
    comparison = subject.compare(answers, written, cases)
    note = "; ".join([*differs, *([] if settings == given else [IN_PLACE])])
    rungs.append(rung("fp32 optimized", "fp32 graph", comparison, bound=FLOAT_BOUND, note=note))
    del written
    chosen = _batches(subject, cases)
    batches, on_two = [cases[i] for i in chosen], [answers[i] for i in chosen]

    def in_steps(_: int) -> list[Rung]:
        session = held.pop()
        found = step_rungs(subject, session, "fp32", cases, answers)
        del session
        return_freed(cycles=False)
        return found

    def on_one(_: int) -> list[Rung]:
        return _of_one_thread(subject, graph, "fp32", batches, on_two, settings)

    if not subject.task.generates:
        held.clear()
        return_freed(cycles=False)
        return rungs + on_one(1)
    stepped, alone = side_by_side(graph, in_steps, on_one)
    return rungs + alone + stepped


def invariant_rungs(
    subject: Subject,
    graph: Graph,
    precision: str,
    cases: Sequence[Feeds],
    settings: dict[str, Any],
    budget: str = "",
    wanted: Sequence[Feeds] | None = None,
    answers: Sequence[Feeds] | None = None,
) -> list[Rung]:
    """The same answer whatever the batch neighbours, the padding and the number of threads.

    Dynamic int8 has one activation scale a tensor and cannot hold the first two exactly; its
    drift is measured and bounded by the budget, which fp32 has no use for. wanted: the oracle's
    answers to the cases, if a row alone is to be held against those. answers: the graph's own on
    two threads, where they are known.
    """
    batches = [cases[i] for i in _batches(subject, cases)]
    if answers is not None:
        on_two = [answers[i] for i in _batches(subject, cases)]
    else:
        on_two = answers_of(graph, batches, settings=settings, threads=2)
    if wanted is not None:
        wanted = [wanted[i] for i in _batches(subject, cases)]
    return _of_one_thread(subject, graph, precision, batches, on_two, settings, budget, wanted)


def _of_one_thread(
    subject: Subject,
    graph: Graph,
    precision: str,
    batches: Sequence[Feeds],
    on_two: Sequence[Feeds],
    settings: dict[str, Any],
    budget: str = "",
    wanted: Sequence[Feeds] | None = None,
) -> list[Rung]:
    """Each row alone against its batch, and the batches against the answers of two threads.

    wanted: what a row alone is held against instead, the oracle's answers. How far it is from its
    batch is told then.
    """
    run = session_run(graph, settings=settings, threads=1)
    together = [run(feeds) for feeds in batches]
    is_float = precision == "fp32"
    threads = rung(
        f"{precision} on 2 threads",
        f"{precision} on 1",
        subject.compare(on_two, together, batches),
        bound=FLOAT_BOUND if is_float else DEVICE_BOUNDS[precision],
    )
    if not subject.row_by_row:
        return [threads]
    if wanted is not None:
        return [_near_oracle(subject, run, precision, batches, together, wanted, budget), threads]
    alone = rung(
        f"{precision} alone",
        f"{precision} in a padded batch",
        compare_alone(subject, run, batches, together),
        bound=FLOAT_BOUND if is_float else budget,
        bound_on="" if is_float else subject.judged_output,
        note="one activation scale a tensor: bounded by the budget"
        if precision == "int8" and budget
        else "",
    )
    return [alone, threads]


def _near_oracle(
    subject: Subject,
    run: Run,
    precision: str,
    batches: Sequence[Feeds],
    together: Sequence[Feeds],
    wanted: Sequence[Feeds],
    budget: str,
) -> Rung:
    """Each row alone against the oracle, as its batch is held elsewhere.

    Two roundings of one answer, each within a budget of the oracle, may be twice as far from each
    other: which of them is the reference is arbitrary, and what the budget is about is the oracle.
    """
    drift = compare_alone(subject, run, batches, together).measures()
    said = ", ".join(
        f"perplexity {m.perplexity:+.2%}" for m in drift.values() if m.perplexity is not None
    )
    return rung(
        f"{precision} alone",
        subject.oracle,
        compare_alone(subject, run, batches, wanted),
        bound=budget,
        bound_on=subject.judged_output if budget else "",
        note=f"from the same rows in a padded batch: {said}",
    )


def _batches(subject: Subject, cases: Sequence[Feeds]) -> list[int]:
    """Which cases have more than one row, where rows can be asked alone; otherwise all."""
    every = range(len(cases))
    return [i for i in every if _batch(cases[i]) > 1] if subject.row_by_row else list(every)


def compare_alone(
    subject: Subject, run: Run, batches: Sequence[Feeds], together: Sequence[Feeds]
) -> Comparison:
    """Rows asked alone and without padding, against the answers they had `together`."""
    alone = Comparison(subject.task.outputs)
    ours = subject.signature
    for feeds, answer in zip(batches, together, strict=True):
        for row in range(min(_batch(feeds), 4)):
            still_wanted()
            lengths = _lengths(subject, feeds, row)
            cut = {t.name: _cut(feeds[t.name], t.shape, row, lengths) for t in ours.inputs}
            expected = {t.name: _cut(answer[t.name], t.shape, row, lengths) for t in ours.outputs}
            alone.add(run(cut), expected, *subject.of_tokens(cut))
    return alone


def _batch(feeds: Feeds) -> int:
    """The rows of a batch; where each sense has its own, the rows of the smallest."""
    return min(len(array) for array in feeds.values())


def _lengths(subject: Subject, feeds: Feeds, row: int) -> dict[str, int]:
    """The sizes of the axes of a row without its padding: what it takes, and its frames."""
    lengths = {
        str(t.shape[1]): int(feeds[t.name][row].sum())
        for t in subject.signature.inputs
        if t.name in ("attention_mask", TARGET_MASK)
    }
    if "attention_mask" in feeds and not subject.task.seq2seq:
        length = int(feeds["attention_mask"][row].sum())
        frames = next((o.length(length) for o in subject.task.outputs if o.steps), length)
        lengths |= {SEQUENCE: length, SAMPLES: length, FRAMES: frames}
    return lengths


def _cut(array: Array, shape: tuple[int | str, ...], row: int, lengths: Mapping[str, int]) -> Array:
    """One row along every axis that counts items, without the padding of its tokens."""
    index = tuple(
        slice(row, row + 1) if is_batch(axis) else slice(lengths.get(str(axis))) for axis in shape
    )
    return np.ascontiguousarray(array[index])
