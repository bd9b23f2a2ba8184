"""Where a graph parts ways with what it should compute: the first node whose answer differs.

Needs onnx-ir, which is imported on use: this runs when a rung has failed, on a machine that
exports or quantizes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
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
    worst: str
    step: float

    def __str__(self) -> str:
        text = f"the first node that diverges is {self.node} (relative error {self.error:.2g})"
        if self.worst != self.node:
            text += f"; {self.worst} adds most ({self.step:.2g})"
        return text


def first_divergence(
    reference: Path, other: Path, feeds: Feeds, *, limit: float
) -> Divergence | None:
    """Compare the float values that both graphs compute under the same name, in graph order.

    limit: the relative L2 error a node may have. None if no node is past it. Both graphs run
    unoptimized, since fusions would remove the values.
    """
    theirs = {name for name, _ in float_values(other)}
    shared = [(name, node) for name, node in float_values(reference) if name in theirs]
    names = [name for name, _ in shared]
    wanted, got = (compute_values(path, names, feeds) for path in (reference, other))
    return first_past(((node, got[name], wanted[name]) for name, node in shared), limit)


def first_past(steps: Iterable[tuple[str, Array, Array]], limit: float) -> Divergence | None:
    """The first of (node, got, wanted) whose relative error is past the limit."""
    first: tuple[str, float] | None = None
    worst, step, before = "", 0.0, 0.0
    for node, got, wanted in steps:
        error = relative_error(got, wanted)
        if error - before > step:
            worst, step = node, error - before
        if first is None and not error <= limit:
            first = (node, error)
        before = error
    return Divergence(*first, worst, step) if first else None


def relative_error(got: Array, wanted: Array) -> float:
    """L2 norm of the difference over that of what is wanted; infinite for other shapes or NaN."""
    if got.shape != wanted.shape or not np.isfinite(got).all():
        return float("inf")
    norm = float(np.linalg.norm(wanted.astype(np.float64)))
    difference = float(np.linalg.norm(got.astype(np.float64) - wanted.astype(np.float64)))
    return difference / norm if norm else difference


def float_values(path: Path) -> list[tuple[str, str]]:
    """The name of every float that a graph computes, and of its node, in order."""
    from edgetfm.graphs import infer_shapes, read_graph

    return [
        (str(value.name), str(node.name))
        for node in infer_shapes(read_graph(path)).graph
        for value in node.outputs
        if value.name and _is_float(value)
    ]


def _is_float(value: Any) -> bool:
    return value.dtype is not None and bool(value.dtype.is_floating_point())


def compute_values(path: Path, names: Iterable[str], feeds: Feeds) -> Feeds:
    """The named values of a graph, which is run unoptimized with each of them as an output."""
    wanted = list(names)
    with tempfile.TemporaryDirectory(prefix="edgetfm-") as folder:
        copy = with_values(path, wanted, Path(folder) / "model.onnx")
        return make_session(copy, optimize=False).run(feeds, wanted)


def with_values(path: Path, names: Iterable[str], copy: Path) -> Path:
    """A copy of a graph that also gives these of its values."""
    from edgetfm.graphs import infer_shapes, read_graph, save_graph

    wanted = list(names)
    model = infer_shapes(read_graph(path))
    missing = set(wanted) - {value.name for value in model.graph.outputs}
    for node in model.graph:
        model.graph.outputs.extend(v for v in node.outputs if v.name in missing)
    save_graph(model, copy)
    return copy
