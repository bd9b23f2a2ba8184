"""Where a graph's time goes on this machine, node by node, and whether onnxruntime fused it.

Needs onnx-ir, which is imported on use, to read the graph as it was written.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from edgetfm.errors import InputError
from edgetfm.runtime.fusions import Fusion, fusions
from edgetfm.runtime.session import Settings, make_session
from edgetfm.runtime.steps import last_step
from edgetfm.signature import PAST, Feeds

RUNS = 12
WARM_UP = 2
MOST_NODES = 12
"""How many of the slowest nodes are named."""


@dataclass(frozen=True)
class NodeTime:
    """One node of the optimized graph and its share of the time of a call, 0 to 1."""

    node: str
    op: str
    share: float


@dataclass(frozen=True)
class OperatorTime:
    """All nodes of one operator together."""

    op: str
    nodes: int
    share: float


@dataclass(frozen=True)
class Profile:
    """The slowest nodes, all operators by their time, and the fusions; on the CPU, 1 thread.

    Shares are of this machine and these inputs; they say where the time goes, not how long a call
    takes (profiling itself takes time).
    """

    runs: int
    nodes: tuple[NodeTime, ...]
    operators: tuple[OperatorTime, ...]
    fusions: tuple[Fusion, ...]

    def to_json(self) -> dict[str, Any]:
        """The form it has in facts: JSON values, shares with three digits."""
        return {
            "runs": self.runs,
            "nodes": [{"node": n.node, "op": n.op, "share": _short(n.share)} for n in self.nodes],
            "operators": [
                {"op": o.op, "nodes": o.nodes, "share": _short(o.share)} for o in self.operators
            ],
            "fusions": [fusion.to_json() for fusion in self.fusions],
        }


def _short(share: float) -> float:
    return float(f"{share:.3g}")


def profile(
    path: Path, feeds: Feeds, *, settings: Settings | None = None, runs: int = RUNS
) -> Profile:
    """Run the graph at `path` on `feeds` under onnxruntime's profiler, on 1 CPU thread.

    settings: onnxruntime settings as in a manifest's `session`. The time of a node is its median
    over `runs` calls after a warm-up; of a decoder that is given whole texts the step that reads
    their last token is called. Raises BundleError for a graph that cannot be loaded and InputError
    for one that cannot be read or does not take `feeds`.
    """
    if runs < 1:
        raise InputError(f"runs is {runs}, it must be 1 or more")
    from edgetfm.graphs import read_graph

    written = read_graph(Path(path))
    events = _events(Path(path), feeds, settings, WARM_UP + runs)
    times = {node: _median(seen, WARM_UP + runs) for node, seen in _by_node(events).items()}
    total = sum(times.values()) or 1.0
    counts = Counter(op for _, _, op in times)
    spent = {op: sum(t for (_, _, o), t in times.items() if o == op) for op in counts}
    slowest = sorted(times, key=lambda node: -times[node])[:MOST_NODES]
    return Profile(
        runs=runs,
        nodes=tuple(NodeTime(name, op, times[i, name, op] / total) for i, name, op in slowest),
        operators=tuple(
            OperatorTime(op, counts[op], spent[op] / total)
            for op in sorted(spent, key=lambda op: -spent[op])
        ),
        fusions=fusions(written.graph.all_nodes(), counts),
    )


def operators(path: Path, feeds: Feeds, settings: Settings | None = None) -> Counter[str]:
    """How many nodes of each operator a call runs, of the graph as onnxruntime rewrote it.

    Raises as `profile` does.
    """
    return Counter(op for _, _, op in _by_node(_events(path, feeds, settings, 1)))


_Node = tuple[str, str, str]
"""The number that onnxruntime gave it, its name, its operator."""


def _events(
    path: Path, feeds: Feeds, settings: Settings | None, calls: int
) -> list[dict[str, Any]]:
    """What onnxruntime's profiler wrote down: an event for each run of each node."""
    with tempfile.TemporaryDirectory(prefix="edgetfm-") as folder:
        session = make_session(path, settings=settings, threads=1, profile_to=Path(folder))
        try:
            whole = not any(name.startswith(PAST) for name in feeds)
            step = last_step(session.signature, feeds) if whole else feeds
            for _ in range(calls):
                session.run(step)
        finally:
            file = session.end_profiling()  # closes it, which some systems want before removal
        events: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return events


_SUFFIX = "_kernel_time"


def _by_node(events: list[dict[str, Any]]) -> dict[_Node, list[float]]:
    """The microseconds of each run of each node."""
    found: dict[_Node, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith(_SUFFIX):
            about: Mapping[str, Any] = event["args"]
            op = str(about["op_name"])
            name = str(event["name"]).removesuffix(_SUFFIX) or op
            found.setdefault((str(about["node_index"]), name, op), []).append(float(event["dur"]))
    return found


def _median(times: list[float], calls: int) -> float:
    """The median over the calls after the warm-up; a node in a loop runs several times a call."""
    each = max(1, len(times) // calls)
    sums = [sum(times[i : i + each]) for i in range(0, len(times), each)]
    return median(sums[WARM_UP:] or sums)
