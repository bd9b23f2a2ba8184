"""A variant in blocks whose activations stay float: the same weights, without int8 in between.

MatMulNBits rounds its activations to int8 at the accuracy level that variants ship with, and the
last bit of a float decides which way. In float32 two ways to compute the same thing differ by
their order of summing alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from edgetfm.graphs import written_beside
from edgetfm.quantize.linear import CONTRIB

FLOAT32 = 1
"""The operator's accuracy level that computes in float32
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md)."""


@contextmanager
def with_float_activations(graph: Path) -> Iterator[Path]:
    """A graph beside `graph`, gone afterwards, whose MatMulNBits compute in float32.

    External weights are not copied: it reads the same file.
    """
    model = onnx.load(graph, load_external_data=False)
    _set(model.graph)
    with written_beside(model, graph, "float") as beside:
        del model
        yield beside


def _set(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _set(attribute.g)
            elif (node.domain, attribute.name) == (CONTRIB, "accuracy_level"):
                attribute.i = FLOAT32
