"""The rungs of a float32 graph, and what every graph keeps to: neighbours, padding and threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgetfm.budget import FLOAT_BOUND
from edgetfm.ledger import Rung, rung
from edgetfm.parity import Comparison
from edgetfm.proof import DEVICE_BOUNDS, Run, Subject, answers_of, of_float, on_disk, session_run
from edgetfm.runtime.encoder_decoder import open_graph
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.session import without_spinning
from edgetfm.signature import FRAMES, SAMPLES, SEQUENCE, TARGET_MASK, Array, Feeds, is_batch
from edgetfm.stages import Graph
from edgetfm.step_proof import step_rungs


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
    asked, settings = len(truth), dict(of_float(graph, settings))
    written = answers_of(graph, cases, optimize=False, settings=settings)
    comparison = subject.compare(written[:asked], truth, cases[:asked])
    rungs = [rung("fp32 graph", subject.oracle, comparison, bound=FLOAT_BOUND)]
    session = open_graph(graph, settings=without_spinning(settings), threads=2)
    answers = [on_disk(session.run(feeds)) for feeds in cases]
    comparison = subject.compare(answers, written, cases)
    rungs.append(rung("fp32 optimized", "fp32 graph", comparison, bound=FLOAT_BOUND))
    del written
    generates = subject.task.generates
    in_steps = step_rungs(subject, session, "fp32", cases, answers) if generates else []
    del session
    return_freed()
    chosen = _batches(subject, cases)
    batches, on_two = [cases[i] for i in chosen], [answers[i] for i in chosen]
    return rungs + _of_one_thread(subject, graph, "fp32", batches, on_two, settings) + in_steps


def invariant_rungs(
    subject: Subject,
    graph: Graph,
    precision: str,
    cases: Sequence[Feeds],
    settings: dict[str, Any],
    budget: str = "",
) -> list[Rung]:
    """The same answer whatever the batch neighbours, the padding and the number of threads.

    Dynamic int8 has one activation scale a tensor and cannot hold the first two exactly; its
    drift is measured and bounded by the budget, which fp32 has no use for.
    """
    batches = [cases[i] for i in _batches(subject, cases)]
    on_two = answers_of(graph, batches, settings=settings, threads=2)
    return _of_one_thread(subject, graph, precision, batches, on_two, settings, budget)


def _of_one_thread(
    subject: Subject,
    graph: Graph,
    precision: str,
    batches: Sequence[Feeds],
    on_two: Sequence[Feeds],
    settings: dict[str, Any],
    budget: str = "",
) -> list[Rung]:
    """Each row alone against its batch, and the batches against the answers of two threads."""
    run = session_run(graph, settings=settings, threads=1)
    together = [on_disk(run(feeds)) for feeds in batches]
    is_float = precision == "fp32"
    threads = rung(
        f"{precision} on 2 threads",
        f"{precision} on 1",
        subject.compare(on_two, together, batches),
        bound=FLOAT_BOUND if is_float else DEVICE_BOUNDS[precision],
    )
    if not subject.row_by_row:
        return [threads]
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
