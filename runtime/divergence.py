"""Where two graphs of one model part ways: the first node whose answers differ.

Needs onnx-ir, which is imported on use: this runs when a rung has failed, on a machine that
exports or quantizes.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.runtime.session import make_session
from edgetfm.signature import Array, Feeds


@dataclass(frozen=True)
class Divergence:
    """The first node past the limit, and the one that added most; errors are relative (L2)."""

    node: str
    error: float
    worst_node: str
    worst_step: float

    def __str__(self) -> str:
        text = f"the first node that diverges is {self.node} (relative error {self.error:.2g})"
        if self.worst_node != self.node:
            text += f"; {self.worst_node} adds most ({self.worst_step:.2g})"
        return text


def first_divergence(
    reference: Path, other: Path, feeds: Feeds, *, limit: float
) -> Divergence | None:
    """Compare the float values that both graphs compute under the same name, in graph order.

    limit: the relative L2 error a node may have. None if no node is past it. Both graphs run
    unoptimized, since fusions would remove the values.
    """
    names = _shared_values(reference, other)
    if not names:
        return None
    wanted, got = (
        _all_values(path, [name for name, _ in names], feeds) for path in (reference, other)
    )
    first: tuple[str, float] | None = None
    worst, worst_step, before = "", 0.0, 0.0
    for name, node in names:
        error = relative_error(got[name], wanted[name])
        if error - before > worst_step:
            worst, worst_step = node, error - before
        if first is None and not error <= limit:
            first = (node, error)
        before = error
    return Divergence(*first, worst, worst_step) if first else None


def relative_error(got: Array, wanted: Array) -> float:
    """L2 norm of the difference over that of what is wanted; infinite for other shapes or NaN."""
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    norm = float(np.linalg.norm(wanted.astype(np.float64)))
    difference = float(np.linalg.norm(got.astype(np.float64) - wanted.astype(np.float64)))
    return difference / norm if norm else difference


def _shared_values(reference: Path, other: Path) -> list[tuple[str, str]]:
    """Value and node names of the floats that both graphs compute, in the reference's order."""
    from edgetfm.graphs import read_graph

    theirs = {value.name for node in read_graph(other).graph for value in node.outputs}
    return [
        (str(value.name), f"{node.op_type} '{node.name}'")
        for node in read_graph(reference).graph
        for value in node.outputs
        if value.name in theirs and _is_float(value)
    ]


def _is_float(value: Any) -> bool:
    return value.dtype is not None and bool(value.dtype.is_floating_point())


def _all_values(path: Path, names: list[str], feeds: Feeds) -> Feeds:
    """The named values of a graph, run with each of them as an output."""
    from edgetfm.graphs import read_graph, save_graph

    model = read_graph(path)
    outputs = {value.name for value in model.graph.outputs}
    wanted = set(names)
    for node in model.graph:
        for value in node.outputs:
            if value.name in wanted and value.name not in outputs:
                model.graph.outputs.append(value)
    with tempfile.TemporaryDirectory(prefix="edgetfm-") as folder:
        copy = Path(folder) / "model.onnx"
        save_graph(model, copy)
        return make_session(copy, optimize=False).run(feeds, names)
