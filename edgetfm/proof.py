"""The rungs of the ledger: what is run, what it is compared with, and what it may differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgetfm.budget import FLOAT_BOUND, Budget
from edgetfm.bundle import Manifest
from edgetfm.ledger import Rung, rung
from edgetfm.parity import Comparison, Measures
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.session import Settings, make_session, without_spinning
from edgetfm.runtime.steps import in_two_parts, one_by_one
from edgetfm.signature import FRAMES, SAMPLES, SEQUENCE, Array, Feeds, Signature, is_batch
from edgetfm.tasks import TASKS, Task

DEVICE_BOUNDS = {
    "fp32": "max_error:1e-4",
    "fp16": "cosine:0.999,max_error:0.05",
    "int8": "cosine:0.999,worst_cosine:0.995,max_error:0.05",
    "int8-weight": "cosine:0.999,worst_cosine:0.995,max_error:0.05",
    "int4": "cosine:0.999,worst_cosine:0.995,max_error:0.05",
    "int8-static": "cosine:0.999,worst_cosine:0.995,max_error:0.05",
    "a16w8": "cosine:0.999,worst_cosine:0.995,max_error:0.05",
}
"""What a variant may differ on another device from what it answered on the exporting CPU.

Kernels sum in other orders, which moves float32 by a few ulps a layer; in int8 it can flip a
rounding (2e-4 between MiniLM optimized and not; see `device_rung`). A wrong kernel, such as one
that saturates, is far outside. The bound on max_error is for short rows: the cosine of a single
score is its sign, and that of two logits hardly more.
"""

_EXACT = ("fp32", "fp16")


def device_rung(
    precision: str,
    name: str,
    against: str,
    comparison: Comparison,
    own: Mapping[str, Measures],
    oracle: str,
) -> Rung:
    """A variant against its own answers elsewhere, held to DEVICE_BOUNDS or to what it can hold.

    own: its distance from the oracle, by output. One activation that is rounded otherwise changes
    the range of the next, and some layers on every rounding is another: MiniLM exported by
    TorchScript stands at 0.9991 to itself unoptimized, where both are at 0.9985 to float32. So an
    output may be as far from itself as it is from the oracle: a rule of experience, which a wrong
    kernel breaks (a saturating one: 0.9970 where 0.9989 was the distance).
    """
    usual = rung(name, against, comparison, bound=DEVICE_BOUNDS[precision])
    if usual.passed or precision in _EXACT:
        return usual
    missed, widest = [], Budget.parse(DEVICE_BOUNDS[precision])
    for output, measured in usual.measures.items():
        bound = _widened(DEVICE_BOUNDS[precision], own.get(output))
        missed += [f"{output}: {miss}" for miss in bound.misses(measured)]
        widest = _widened(str(widest), own.get(output))
    note = f"no output farther from itself than from {oracle}"
    return replace(usual, bound=str(widest), missed=tuple(missed), note=note)


def _widened(bound: str, own: Measures | None) -> Budget:
    """A bound that also holds what is no farther than `own`."""
    bounds = dict(Budget.parse(bound).bounds)
    for measure, better in (("cosine", min), ("worst_cosine", min), ("max_error", max)):
        value = getattr(own, measure, np.nan)
        if np.isfinite(value):
            bounds[measure] = better(bounds[measure], float(f"{value:.6f}"))
    return Budget(tuple(bounds.items()))


Run = Callable[[Feeds], Feeds]


@dataclass(frozen=True)
class Subject:
    """What is known of a model independent of its precision.

    oracle: who gave the answers that all others are held against. row_by_row: whether a row of a
    batch can be asked alone and without its padding; graphs made elsewhere may not take that.
    """

    task: Task
    signature: Signature
    oracle: str = "PyTorch"
    row_by_row: bool = True

    @classmethod
    def of_bundle(cls, manifest: Manifest) -> Self:
        """The subject of a bundle."""
        signature = manifest.components["model"].signature.of_whole_texts
        task = TASKS[manifest.task].on(signature, manifest.preprocessing)
        return cls(task, signature, manifest.oracle, manifest.row_by_row)

    def compare(
        self, got: Sequence[Feeds], wanted: Sequence[Feeds], feeds: Sequence[Feeds]
    ) -> Comparison:
        """The difference over all batches, at the tokens that count."""
        comparison = Comparison(self.task.outputs)
        for one, two, inputs in zip(got, wanted, feeds, strict=True):
            comparison.add(one, two, inputs.get("attention_mask"), inputs.get("input_ids"))
        return comparison

    @property
    def judged_output(self) -> str:
        """The outputs that a budget binds, commas between; '' means all."""
        return ",".join(self.task.judged)


def session_run(path: Path, *, settings: Settings | None = None, **options: Any) -> Run:
    """A graph as a function from feeds to outputs."""
    return make_session(path, settings=without_spinning(settings), **options).run


def answers_of(path: Path, cases: Sequence[Feeds], **options: Any) -> list[Feeds]:
    """A graph's answers; its session is gone afterwards, for it may hold a copy of the weights."""
    run = session_run(path, **options)
    answers = [run(feeds) for feeds in cases]
    del run
    return_freed()
    return answers


def float_rungs(
    subject: Subject,
    graph: Path,
    cases: Sequence[Feeds],
    truth: Sequence[Feeds],
    settings: dict[str, Any],
) -> list[Rung]:
    """The fp32 graph against its oracle, its optimized form against it, and the invariants.

    truth: the oracle's answers to the first of the cases.
    """
    answers = answers_of(graph, cases, optimize=False)
    asked = len(truth)
    comparison = subject.compare(answers[:asked], truth, cases[:asked])
    rungs = [rung("fp32 graph", subject.oracle, comparison, bound=FLOAT_BOUND)]
    comparison = subject.compare(answers_of(graph, cases, settings=settings), answers, cases)
    rungs.append(rung("fp32 optimized", "fp32 graph", comparison, bound=FLOAT_BOUND))
    return rungs + invariant_rungs(subject, graph, "fp32", cases, settings)


def invariant_rungs(
    subject: Subject,
    graph: Path,
    precision: str,
    cases: Sequence[Feeds],
    settings: dict[str, Any],
    budget: str = "",
) -> list[Rung]:
    """The same answer whatever the batch neighbours, the padding and the number of threads.

    Dynamic int8 has one activation scale a tensor and cannot hold the first two exactly; its
    drift is measured and bounded by the budget, which fp32 has no use for.
    """
    batches = [f for f in cases if _batch(f) > 1] if subject.row_by_row else list(cases)
    one_thread = session_run(graph, settings=settings, threads=1)
    together = [one_thread(f) for f in batches]
    alone = compare_alone(subject, one_thread, batches, together) if subject.row_by_row else None
    del one_thread
    return_freed()
    on_two = answers_of(graph, batches, settings=settings, threads=2)
    threads = subject.compare(on_two, together, batches)
    is_float = precision == "fp32"
    rungs = [
        rung(
            f"{precision} on 2 threads",
            f"{precision} on 1",
            threads,
            bound=FLOAT_BOUND if is_float else DEVICE_BOUNDS[precision],
        )
    ]
    if subject.task.generates:
        rungs += step_rungs(subject, graph, precision, cases, settings)
    if alone is not None:
        rungs.insert(
            0,
            rung(
                f"{precision} alone",
                f"{precision} in a padded batch",
                alone,
                bound=FLOAT_BOUND if is_float else budget,
                bound_on="" if is_float else subject.judged_output,
                note="one activation scale a tensor: bounded by the budget"
                if precision == "int8" and budget
                else "",
            ),
        )
    return rungs


def step_rungs(
    subject: Subject,
    graph: Path,
    precision: str,
    cases: Sequence[Feeds],
    settings: dict[str, Any],
) -> list[Rung]:
    """The same logits however a text is cut into steps: in two parts, and token by token."""
    session = make_session(graph, settings=without_spinning(settings), threads=1)
    texts = [f for f in cases if _batch(f) == 1 and f["input_ids"].shape[1] > 1]
    parts, steps = Comparison(subject.task.outputs), Comparison(subject.task.outputs)
    for feeds in texts:
        length = feeds["input_ids"].shape[1]
        whole = session.run(feeds)
        for first in sorted({1, length // 2, length - 1}):
            parts.add(in_two_parts(session, feeds, first), whole, feeds["attention_mask"])
    for feeds in cases:
        last, places = one_by_one(session, feeds)
        whole = {"logits": np.take_along_axis(session.run(feeds)["logits"], places[..., None], 1)}
        steps.add({"logits": last}, whole, np.ones_like(places))
    bound = FLOAT_BOUND if precision == "fp32" else DEVICE_BOUNDS[precision]
    return [
        rung(f"{precision} in two parts", f"{precision} whole", parts, bound=bound),
        rung(f"{precision} token by token", f"{precision} whole", steps, bound=bound),
    ]


def compare_alone(
    subject: Subject, run: Run, batches: Sequence[Feeds], together: Sequence[Feeds]
) -> Comparison:
    """Rows asked alone and without padding, against the answers they had `together`."""
    alone = Comparison(subject.task.outputs)
    ours = subject.signature
    for feeds, answer in zip(batches, together, strict=True):
        for row in range(min(_batch(feeds), 4)):
            length = _length(feeds, row)
            lengths = {} if length is None else _lengths(subject.task, length)
            cut = {t.name: _cut(feeds[t.name], t.shape, row, lengths) for t in ours.inputs}
            expected = {t.name: _cut(answer[t.name], t.shape, row, lengths) for t in ours.outputs}
            alone.add(run(cut), expected, cut.get("attention_mask"), cut.get("input_ids"))
    return alone


def _batch(feeds: Feeds) -> int:
    """The rows of a batch; where each sense has its own, the rows of the smallest."""
    return min(len(array) for array in feeds.values())


def _length(feeds: Feeds, row: int) -> int | None:
    mask = feeds.get("attention_mask")
    return None if mask is None else int(mask[row].sum())


def _lengths(task: Task, length: int) -> dict[str, int]:
    """The sizes of the axes of a row without its padding: what it takes, and its frames."""
    frames = next((o.length(length) for o in task.outputs if o.steps), length)
    return {SEQUENCE: length, SAMPLES: length, FRAMES: frames}


def _cut(array: Array, shape: tuple[int | str, ...], row: int, lengths: Mapping[str, int]) -> Array:
    """One row along every axis that counts items, without the padding of its tokens."""
    index = tuple(
        slice(row, row + 1) if is_batch(axis) else slice(lengths.get(str(axis))) for axis in shape
    )
    return np.ascontiguousarray(array[index])
