"""A graph whose products in blocks take the table of words in their own shape, without a Reshape.

A table that is also the head is stored once, as the gather wants it, and reshaped for the product:
onnxruntime does that while it optimizes. Of a graph that it is to run as it was written the
product's weight would be computed in each call, where MatMulNBits packs constants alone and makes
float32 of all others: 1.6 GB for a head of 128,256 words and 3,072 channels. In float32 the head
is the table transposed, which takes as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnx import numpy_helper

from edgetfm.quantize.linear import CONTRIB


@contextmanager
def with_shaped_tables(graph: Path, *, transposed: bool = False) -> Iterator[Path]:
    """A graph beside `graph`, gone afterwards, whose head is the table's bytes in the same file.

    `graph` itself, if it has no such head, or holds its weights itself. transposed: whether a
    MatMul by a transposed table becomes a FusedMatMul by the table, as onnxruntime makes it.
    """
    model = onnx.load(graph, load_external_data=False)
    beside = graph.with_name(f"shaped-{graph.name}")
    shaped = _shape_tables(model.graph)
    if transposed and _fuse_transposes(model.graph):
        shaped = True
        if CONTRIB not in {entry.domain for entry in model.opset_import}:
            model.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))
    if not shaped:
        yield graph
        return
    try:
        beside.write_bytes(model.SerializeToString())
        del model
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _shape_tables(graph: onnx.GraphProto) -> bool:
    """Whether a Reshape of a weight in a file became that weight in another shape."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    found = [node for node in graph.node if _is_tied(node, graph, weights)]
    for node in found:
        same = graph.initializer.add()
        same.CopyFrom(weights[node.input[0]])
        same.name = node.output[0]
        del same.dims[:]
        same.dims.extend(int(n) for n in numpy_helper.to_array(weights[node.input[1]]))
        graph.node.remove(node)
    return bool(found)


def _is_tied(
    node: onnx.NodeProto, graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto]
) -> bool:
    """Whether a node reshapes a weight in a file for products all else of which is constant."""
    if node.op_type != "Reshape" or not all(name in weights for name in node.input):
        return False
    external = [weights[name].data_location == onnx.TensorProto.EXTERNAL for name in node.input]
    readers = [other for other in graph.node if node.output[0] in other.input]
    known = {node.output[0], "", *weights}
    return external == [True, False] and all(
        reader.op_type == "MatMulNBits" and known.issuperset(reader.input[1:]) for reader in readers
    )


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
