"""A weight that is read in two shapes: two initializers of a written graph over the same bytes.

A table of words in blocks that is also the head is stored once. The gather wants its steps as
[rows, bytes], MatMulNBits as [rows, blocks, bytes]; in a graph in memory a Reshape stands between.
onnxruntime folds it while it loads, into a copy that is 0.2 GB for 128,256 words of 3,072 channels
in int4; and of a graph that it runs as it was written it computes the product's weight in each
call, and then in float32. Where weights lie in a file of their own, a second initializer at the
same place does without.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import numpy_helper


def share_weights(graph: onnx.GraphProto) -> None:
    """Put initializers in place of what reshapes a weight in a file for products in blocks."""
    given = {value.name for value in graph.input}  # those may be given others for a call
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in given}
    for node in [node for node in graph.node if _is_tied(node, graph, weights)]:
        same = graph.initializer.add()
        same.CopyFrom(weights[node.input[0]])
        same.name = node.output[0]
        del same.dims[:]
        same.dims.extend(_shape(weights[node.input[1]]))
        graph.node.remove(node)


def _is_tied(
    node: onnx.NodeProto, graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto]
) -> bool:
    """Whether a node reshapes a weight in a file for products all else of which is constant.

    Not where the shape is to be found out: -1 and 0 are no sizes.
    """
    if node.op_type != "Reshape" or not all(name in weights for name in node.input):
        return False
    external = [weights[name].data_location == onnx.TensorProto.EXTERNAL for name in node.input]
    readers = [other for other in graph.node if node.output[0] in other.input]
    known = {node.output[0], "", *weights}
    return (
        external == [True, False]
        and min(_shape(weights[node.input[1]])) > 0
        and all(
            reader.op_type == "MatMulNBits" and known.issuperset(reader.input[1:])
            for reader in readers
        )
    )


def _shape(tensor: onnx.TensorProto) -> list[int]:
    return [int(n) for n in numpy_helper.to_array(tensor)]
