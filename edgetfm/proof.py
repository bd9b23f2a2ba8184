"""The rungs of the ledger: what is run, what it is compared with, and what it may differ."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np

from edgetfm.beside import Beside, still_wanted
from edgetfm.budget import Budget
from edgetfm.ledger import Rung, rung
from edgetfm.manifest import Manifest
from edgetfm.parity import Comparison, Measures
from edgetfm.quantize.spool import space, spooled
from edgetfm.quantize.turned_tables import with_turned_tables
from edgetfm.runtime.bound import run_into
from edgetfm.runtime.encoder_decoder import EncoderDecoder, open_graph
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.session import Session, Settings, in_place, without_spinning
from edgetfm.signature import TARGET, TARGET_MASK, Array, Feeds, Signature
from edgetfm.stages import Graph, graph_of, parts
from edgetfm.task import Task
from edgetfm.tasks import TASKS

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

WEIGHT_ONLY = ("int4", "int8-weight")
"""Precisions whose products can compute in float with the same weights."""

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
        signature = manifest.signature.of_whole_texts
        task = TASKS[manifest.task].on(signature, manifest.preprocessing)
        return cls(task, signature, manifest.oracle, manifest.row_by_row)

    def compare(
        self, got: Sequence[Feeds], wanted: Sequence[Feeds], feeds: Sequence[Feeds]
    ) -> Comparison:
        """The difference over all batches, at the tokens that count."""
        comparison = Comparison(self.task.outputs)
        for one, two, inputs in zip(got, wanted, feeds, strict=True):
            comparison.add(one, two, *self.of_tokens(inputs))
        return comparison

    def of_tokens(self, feeds: Feeds) -> tuple[Array | None, Array | None]:
        """Which tokens count, and the tokens: of an encoder-decoder those of the target."""
        if self.task.seq2seq:
            return feeds.get(TARGET_MASK), feeds.get(TARGET)
        return feeds.get("attention_mask"), feeds.get("input_ids")

    @property
    def judged_output(self) -> str:
        """The outputs that a budget binds, commas between; '' means all."""
        return ",".join(self.task.judged)


def session_run(path: Graph, *, settings: Settings | None = None, **options: Any) -> Run:
    """A graph as a function from feeds to outputs."""
    return partial(answer_to, open_graph(path, settings=without_spinning(settings), **options))


def answer_to(model: Session | EncoderDecoder, feeds: Feeds) -> Feeds:
    """What a model answers; large arrays lie in files without a name, as `on_disk` has them."""
    still_wanted()
    return (
        run_into(model, feeds, space) if isinstance(model, Session) else on_disk(model.run(feeds))
    )


def answers_of(path: Graph, cases: Sequence[Feeds], **options: Any) -> list[Feeds]:
    """A graph's answers; its session is gone afterwards, for it may hold a copy of the weights."""
    run = session_run(path, **options)
    answers = [run(feeds) for feeds in cases]
    del run
    return_freed(cycles=False)
    return answers


@contextmanager
def with_tables_in_place(graph: Graph) -> Iterator[Graph]:
    """A float graph to be run without onnxruntime's rewrites, none of whose tables is copied."""
    with ExitStack() as stack:
        yield graph_of(
            {
                name: stack.enter_context(with_turned_tables(path))
                for name, path in parts(graph).items()
            }
        )


SMALL = 3 << 28
"""Bytes of a graph and its weights up to which two sessions of it may be open at once."""

_Given = TypeVar("_Given")


def side_by_side(graph: Graph, *works: Callable[[int], _Given]) -> list[_Given]:
    """What pieces of work on a graph give; each is told how many threads its session gets.

    Of a small graph two go on at the same time with a thread each, which keeps two cores busy
    where one session leaves the second idle between its operators: give the longest first. Of a
    large one the next begins when the one before has closed its session. Where one fails, the
    other stops.
    """
    files = (f for p in parts(graph).values() for f in p.parent.glob(f"{p.name}*"))
    if sum(file.stat().st_size for file in files) > SMALL:
        return [work(2) for work in works]
    given: dict[int, _Given] = {}
    waiting = deque(enumerate(works))

    def take_turns() -> None:
        while (turn := next_turn()) is not None:
            do(*turn)

    def next_turn() -> tuple[int, Callable[[int], _Given]] | None:
        try:
            return waiting.popleft()
        except IndexError:  # nothing waits any more
            return None

    def do(number: int, work: Callable[[int], _Given]) -> None:
        try:
            given[number] = work(1)
        except BaseException:
            waiting.clear()
            raise

    first = waiting.popleft()
    with Beside(take_turns) as other:
        do(*first)
        take_turns()
        other.result()
    return [given[number] for number in range(len(works))]


def on_disk(answers: Feeds) -> Feeds:
    """The same arrays, large ones in files without a name: logits over a vocabulary are large.

    All that is asked passes here, so this is where work that nobody wants any more ends.
    """
    still_wanted()
    return {name: spooled(array) for name, array in answers.items()}


def of_float(graph: Graph, settings: Settings | None = None) -> Settings:
    """The settings to prove a float graph under: `in_place` if one of its parts is large."""
    for path in parts(graph).values():
        settings = in_place(path, settings)
    return settings or {}
