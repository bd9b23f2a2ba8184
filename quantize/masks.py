"""Where masks are in a graph: what computes them, and which tensors hold their sentinels.

An additive mask is 0 where attention may look and a sentinel (-1e4, -1e9, -3.4e38, -inf) where it
may not. Calibration sees items without their padding, so the sentinels hardly show in it: they are
found in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgetfm.quantize.ranges import SENTINEL

_THROUGH = frozenset(
    {"Add", "Sub", "Mul", "Div", "Where", "Neg", "Min", "Max", "Clip", "Cast", "CastLike"}
    | {"Expand", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Slice", "Gather", "Concat"}
    | {"Identity", "Tile", "Split", "ConstantOfShape", "Trilu"}
)
"""What may lie between a mask and the Softmax that it reaches."""

_SHAPES = frozenset({"Shape", "Size"})
_MIXING = frozenset({"MatMul", "Gemm", "Conv"})


@dataclass(frozen=True)
class Masks:
    """Names of tensors. arithmetic: float tensors that depend on masks and lengths alone.

    sentinels: those, and attention scores, that a sentinel may be in. scores: the inputs of
    Softmax nodes.
    """

    arithmetic: frozenset[str]
    sentinels: frozenset[str]
    scores: frozenset[str]


def find_masks(model: ir.Model) -> Masks:
    """The masks of a graph, which is not changed."""
    scores = {
        str(node.inputs[0].name)
        for node in model.graph
        if node.op_type in ("Softmax", "LogSoftmax") and node.inputs[0] is not None
    }
    path = _paths(model)
    sentinels: set[str] = set()
    given = {id(v) for v in model.graph.inputs if v.dtype == ir.DataType.FLOAT and id(v) in path}
    sentinels |= {str(v.name) for v in model.graph.inputs if id(v) in given}
    arithmetic, data = {id(v): v for v in model.graph.inputs if id(v) in given}, set[int]()
    for value in model.graph.inputs:
        if value.dtype == ir.DataType.FLOAT and id(value) not in given:
            data.add(id(value))
        elif id(value) not in given:
            arithmetic[id(value)] = value
    for node in model.graph:
        inputs = list(_read(node))
        marked = any(v.name in sentinels or _holds_sentinel(v) for v in inputs)
        from_data = any(id(v) in data for v in inputs) or _looks_up(node)
        from_data |= node.op_type in _MIXING and not any(id(v) in arithmetic for v in inputs)
        from_mask = any(id(v) in arithmetic for v in inputs) and node.op_type not in _SHAPES
        for output in node.outputs:
            if from_data:
                data.add(id(output))
            elif from_mask:
                arithmetic[id(output)] = output
            if id(output) in path and (marked or _fills(node)):
                sentinels.add(str(output.name))
    floats = {str(v.name) for v in arithmetic.values() if v.dtype == ir.DataType.FLOAT}
    return Masks(frozenset(floats), frozenset(sentinels), frozenset(scores))


def _paths(model: ir.Model) -> set[int]:
    """The values from which a Softmax is reached through arithmetic alone."""
    path: set[int] = set()
    for node in reversed(list(model.graph)):
        if node.op_type in ("Softmax", "LogSoftmax") or (
            node.op_type in _THROUGH and any(id(v) in path for v in node.outputs)
        ):
            path |= {id(v) for v in _read(node)}
    return path


def _read(node: ir.Node) -> Iterator[ir.Value]:
    return (v for v in node.inputs if v is not None)


def _looks_up(node: ir.Node) -> bool:
    """Whether a node takes rows of an embedding table."""
    table = node.inputs[0] if node.op_type == "Gather" else None
    return table is not None and table.const_value is not None and len(table.const_value.shape) > 1


def _holds_sentinel(value: ir.Value) -> bool:
    """Whether a float constant holds a number that no score has."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return False
    return _is_sentinel(tensor)


def _fills(node: ir.Node) -> bool:
    """Whether a node makes a tensor full of sentinels."""
    attribute = node.attributes.get("value") if node.op_type == "ConstantOfShape" else None
    return attribute is not None and _is_sentinel(attribute.as_tensor())


def _is_sentinel(tensor: ir.TensorProtocol) -> bool:
    return bool((np.abs(tensor.numpy()) >= SENTINEL).any())
