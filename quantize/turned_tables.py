"""A float graph whose head is multiplied by the table of words as it lies, not by its transpose.

onnxruntime does that while it optimizes. Of a graph that it is to run as it was written it makes
the transpose in memory: 1.6 GB for a head of 128,256 words and 3,072 channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from edgetfm.graphs import written_beside
from edgetfm.quantize.linear import CONTRIB


@contextmanager
def with_turned_tables(graph: Path) -> Iterator[Path]:
    """A graph beside `graph`, gone afterwards, whose head reads the table's bytes in the same file.

    A MatMul by a transposed weight becomes a FusedMatMul by the weight, as onnxruntime makes it.
    `graph` itself, if it has no such product, or holds its weights itself.
    """
    model = onnx.load(graph, load_external_data=False)
    if not _fuse_transposes(model.graph):
        yield graph
        return
    if CONTRIB not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))
    with written_beside(model, graph, "turned") as beside:
        del model
        yield beside


def _fuse_transposes(graph: onnx.GraphProto) -> bool:
    """Whether a MatMul by a transposed weight in a file became one by the weight."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    elsewhere = {value.name for value in graph.output} | set(_read_inside(graph))
    turned = [
        node
        for node in graph.node
        if node.op_type == "Transpose"
        and node.input[0] in weights
        and weights[node.input[0]].data_location == onnx.TensorProto.EXTERNAL
        and len(weights[node.input[0]].dims) == 2
        and all(list(a.ints) == [1, 0] for a in node.attribute)  # which is also its default
        and node.output[0] not in elsewhere
    ]
    fused = False
    for node in turned:
        readers = [other for other in graph.node if node.output[0] in other.input]
        if not readers or any(
            r.op_type != "MatMul" or r.input[0] == node.output[0] for r in readers
        ):
            continue
        for reader in readers:
            reader.op_type, reader.domain = "FusedMatMul", CONTRIB
            reader.input[1] = node.input[0]
            reader.attribute.append(onnx.helper.make_attribute("transB", 1))
        graph.node.remove(node)
        fused = True
    return fused


def _read_inside(graph: onnx.GraphProto) -> Iterator[str]:
    """The names that nodes of the graphs inside its nodes read, or that those graphs give."""
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else []
            for one in (*inner, *attribute.graphs):
                yield from (name for reader in one.node for name in reader.input)
                yield from (value.name for value in one.output)
                yield from _read_inside(one)
