"""Session settings chosen by measuring: which of onnxruntime's rewrites pay differs by machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from edgetfm.progress import Progress, quiet
from edgetfm.runtime.encoder_decoder import EncoderDecoder, open_graph, token_by_token
from edgetfm.runtime.profile import operators
from edgetfm.runtime.session import LARGE_GRAPH, Session, Settings
from edgetfm.runtime.steps import last_step
from edgetfm.signature import Feeds
from edgetfm.stages import Graph, parts

Clock = Callable[[], int]
"""Nanoseconds from some start."""

_Name = TypeVar("_Name", bound=Hashable)

ROUNDS = 9
ROUND_SECONDS = 0.06
"""Calls of one candidate are repeated for about this long before the next has its turn."""
MOST_CALLS = 100
"""Of a round: the median of a hundred is within an eighth of what single calls differ by."""


@dataclass(frozen=True)
class Timing:
    """Latency of one call in seconds: the median over rounds, and the middle half's width.

    rounds: the median latency of each round. Rounds of all candidates alternate, so that the
    i-th rounds of two of them saw the same machine.
    """

    median: float
    spread: float
    rounds: tuple[float, ...] = ()

    def ratio_to(self, other: Timing) -> Timing:
        """This latency over another's from the same measurement, round by round."""
        return _timing([a / b for a, b in zip(self.rounds, other.rounds, strict=True)])


CANDIDATES: dict[str, dict[str, Any]] = {
    "default": {},
    "no SkipLayerNormFusion": {
        "config_entries": {"optimization.disable_specified_optimizers": "SkipLayerNormFusion"}
    },
}
"""What is tried. onnxruntime's SkipLayerNormalization costs more than an Add and a
LayerNormalization on some CPUs. Config entries can be set from every language that has
onnxruntime (several optimizers are separated by semicolons); disabled_optimizers only from
Python."""


def too_large(graph_bytes: int) -> bool:
    """Whether a graph of this size is not tried with each of CANDIDATES side by side.

    Each session holds the weights once more. What can be won does not grow with a graph's width,
    so it is little there.
    """
    return len(CANDIDATES) * graph_bytes > LARGE_GRAPH


def choose_session(path: Graph, feeds: Feeds, *, progress: Progress = quiet) -> dict[str, Any]:
    """The settings with which the graph at `path` answers `feeds` fastest on 1 CPU thread.

    Empty, onnxruntime's default, unless another candidate wins by more than the spread; and for
    graphs that are `too_large`, or that onnxruntime rewrites alike whatever the candidate: what
    that turns off was not done to them.
    """
    held = (f for p in parts(path).values() for f in p.parent.glob(f"{p.name}*"))
    if too_large(sum(file.stat().st_size for file in held)):
        return {}
    if isinstance(path, Path) and _are_alike(path, feeds):
        return {}
    graphs = {name: (path, settings) for name, settings in CANDIDATES.items()}
    return dict(CANDIDATES[fastest(compare_latency(graphs, feeds, progress=progress))])


def _are_alike(path: Path, feeds: Feeds) -> bool:
    """Whether the graph has the same operators under each of CANDIDATES."""
    first, *others = (operators(path, feeds, settings) for settings in CANDIDATES.values())
    return all(other == first for other in others)


def fastest(timings: Mapping[str, Timing], default: str = "default") -> str:
    """The fastest by the median of ratios to the default, which keeps what is within the spread."""
    ratios = {name: timing.ratio_to(timings[default]) for name, timing in timings.items()}
    best = min(ratios, key=lambda name: ratios[name].median)
    return best if ratios[best].median + ratios[best].spread < 1.0 else default


def compare_latency(
    graphs: Mapping[_Name, tuple[Graph, Settings]],
    feeds: Feeds,
    *,
    threads: int = 1,
    rounds: int = ROUNDS,
    progress: Progress = quiet,
) -> dict[_Name, Timing]:
    """The latency of each graph with its settings on the CPU, measured in alternating rounds.

    On 1 thread it is CPU time, which equals the time on the wall of an idle machine and, unlike
    it, hardly moves while others work: a busy one gave a spread of 1 % instead of 40 %.
    Of a decoder, the step is timed that reads the last token of `feeds`: its form is chosen for
    the tokens it writes, each of which reads all its weights. Of an encoder-decoder a call reads
    the source and writes the target, token by token.
    """
    calls = {
        name: _call(open_graph(graph, settings=settings, threads=threads), feeds)
        for name, (graph, settings) in graphs.items()
    }
    clock = _cpu_clock() if threads == 1 else time.perf_counter_ns
    return interleaved(calls, rounds=rounds, clock=clock, progress=progress)


def _call(session: Session | EncoderDecoder, feeds: Feeds) -> Callable[[], object]:
    if isinstance(session, EncoderDecoder):
        return partial(token_by_token, session, feeds, 1)
    return partial(session.run, last_step(session.signature, feeds))


def _cpu_clock() -> Clock:
    """CPU time of this thread, on which a session of 1 thread does all its work.

    Where that clock is coarse (Windows: 16 ms), the wall's.
    """
    fine = time.get_clock_info("thread_time").resolution <= 1e-6
    return time.thread_time_ns if fine else time.perf_counter_ns


def interleaved(
    calls: Mapping[_Name, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    seconds: float = ROUND_SECONDS,
    clock: Clock = time.perf_counter_ns,
    progress: Progress = quiet,
) -> dict[_Name, Timing]:
    """The latency of each call. They take turns: what slows the machine slows them alike."""
    repeats = {name: _warm_up(call, seconds) for name, call in calls.items()}
    seen: dict[_Name, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        progress("measuring latency", number, rounds)
        for name, call in calls.items():
            seen[name].append(median(timed(call, clock) for _ in range(repeats[name])))
    progress("measuring latency", rounds, rounds)
    return {name: _timing(values) for name, values in seen.items()}


def timed(call: Callable[[], object], clock: Clock = time.perf_counter_ns) -> float:
    """Seconds that one call takes."""
    start = clock()
    call()
    return (clock() - start) / 1e9


def _warm_up(call: Callable[[], object], seconds: float) -> int:
    """How often the call fits into `seconds`, 3 to MOST_CALLS times; the first calls allocate.

    A call that takes longer than that is one: what disturbs short calls is a small share of it.
    """
    call()
    once = max(1e-6, min(timed(call) for _ in range(2)))
    return 1 if once > seconds else max(3, min(MOST_CALLS, int(seconds / once)))


def _timing(values: list[float]) -> Timing:
    ordered = sorted(values)
    quarter = len(ordered) // 4
    spread = ordered[len(ordered) - 1 - quarter] - ordered[quarter]
    return Timing(median(values), spread, tuple(values))
