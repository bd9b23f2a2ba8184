"""Finding the matrix products of a graph: which can go to int8, and why others stay in float."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

PART = 1 << 22
"""Entries of a weight that are worked on at once, 16 MB."""


@dataclass(frozen=True)
class Linear:
    """y = x @ weight [+ bias], with a constant weight.

    node: the MatMul or Gemm. weight: the initializer, stored [inputs, outputs] or, if
    `transposed`, [outputs, inputs]. bias: the initializer that is added right after, if any.
    """

    node: ir.Node
    weight: ir.Value
    transposed: bool
    bias: ir.Value | None

    @property
    def name(self) -> str:
        """The node's name."""
        return name_of(self.node)

    @property
    def x(self) -> ir.Value:
        """The activation that it reads."""
        x = self.node.inputs[0]
        assert x is not None
        return x

    @property
    def shape(self) -> tuple[int, int]:
        """(inputs, outputs)."""
        tensor = self.weight.const_value
        assert tensor is not None
        rows, columns = (int(d) for d in tensor.shape.numpy())
        return (columns, rows) if self.transposed else (rows, columns)

    def matrix(self) -> Matrix:
        """The weight, [inputs, outputs], read anew at each call: nothing is kept."""
        values = constant(self.weight)
        return np.ascontiguousarray(values.T if self.transposed else values)

    def parts(self) -> Iterator[tuple[slice, Matrix]]:
        """The weight some outputs at a time, as (which, [inputs, some]): it is read once.

        What is made of a part stays small, however large the weight.
        """
        return column_parts(constant(self.weight), transposed=self.transposed)

    @property
    def add(self) -> ir.Node | None:
        """The Add behind a MatMul that adds the bias."""
        if self.bias is None or self.node.op_type == "Gemm":
            return None
        return next(iter(self.node.outputs[0].consumers()))


@dataclass(frozen=True)
class Left:
    """A matrix product or convolution that stays in float, and why.

    inside: whether it is in a branch or a loop, where nothing is measured.
    """

    node: ir.Node
    reason: str
    inside: bool = False

    @property
    def name(self) -> str:
        """The node's name."""
        return name_of(self.node)


def name_of(node: ir.Node) -> str:
    """The node's name, or its output's where it has none."""
    return node.name or str(node.outputs[0].name)


def constant(value: ir.Value) -> NDArray[np.float32]:
    """The content of a constant value."""
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())


def column_parts(values: Matrix, *, transposed: bool) -> Iterator[tuple[slice, Matrix]]:
    """A matrix [inputs, outputs], or its transpose, some outputs at a time."""
    outputs, inputs = values.shape if transposed else values.shape[::-1]
    some = max(1, PART // inputs)
    for start in range(0, outputs, some):
        part = slice(start, min(start + some, outputs))
        yield part, np.ascontiguousarray(values[part].T if transposed else values[:, part])


def find_linears(
    model: ir.Model, keep_float: Collection[str] = ()
) -> tuple[list[Linear], list[Left]]:
    """The matrix products with constant weights in graph order, and what stays in float."""
    linears: list[Linear] = []
    left: list[Left] = []
    for node in model.graph.all_nodes():
        if node.graph is not model.graph:
            if node.op_type in (*_PRODUCTS, "Conv", "Attention") or _fused_weights(node):
                left.append(Left(node, "it is inside an If or a Loop", inside=True))
        elif node.domain == "" and node.op_type in ("MatMul", "Gemm"):
            found = _linear(node)
            if isinstance(found, Linear) and name_of(node) in keep_float:
                found = Left(node, "the recipe keeps it in float")
            if isinstance(found, Linear):
                linears.append(found)
            else:
                left.append(found)
        elif node.domain == "" and node.op_type == "Conv":
            left.append(Left(node, "a convolution; matrix products are quantized"))
        elif node.domain == "" and node.op_type in ("Attention", "Einsum"):
            held = node.op_type == "Einsum" and any(_is_matrix(v) for v in node.inputs)
            reason = "an Einsum; matrix products are quantized" if held else _BOTH_ACTIVATIONS
            left.append(Left(node, reason))
        elif _fused_weights(node):
            reason = f"fused {node.op_type}: quantize the unoptimized file"
            left.append(Left(node, reason))
        elif node.op_type in _PRODUCTS:
            left.append(Left(node, _BOTH_ACTIVATIONS))
    return linears, left


_PRODUCTS = ("MatMul", "Gemm", "Einsum", "FusedMatMul", "FusedGemm", "TransposeMatMul")
_BOTH_ACTIVATIONS = "both inputs are activations"


def _fused_weights(node: ir.Node) -> list[ir.Value]:
    """The float matrices of an operator that onnxruntime's optimizer made of several."""
    if node.domain == "" or len(node.inputs) < 2:
        return []
    return [v for v in node.inputs if v is not None and _is_matrix(v)]


def _is_matrix(value: ir.Value | None) -> bool:
    tensor = None if value is None else value.const_value
    return tensor is not None and tensor.dtype == ir.DataType.FLOAT and len(tensor.shape) > 1


def by_activation(linears: Iterable[Linear]) -> Iterator[tuple[ir.Value, list[Linear]]]:
    """The matrix products grouped by the activation they read: it is quantized once for all.

    The activation is read when its turn comes: replacing a product changes what the next one
    reads, if nothing is between them.
    """
    groups: dict[int, list[Linear]] = {}
    for linear in linears:
        groups.setdefault(id(linear.x), []).append(linear)
    for group in groups.values():
        yield group[0].x, group


def _linear(node: ir.Node) -> Linear | Left:
    x, weight = node.inputs[0], node.inputs[1]
    assert x is not None
    assert weight is not None
    if x.const_value is not None:
        return Left(node, "its left input is constant")
    transposed = False
    if node.op_type == "Gemm":
        if reason := _unusual_gemm(node):
            return Left(node, reason)
        transposed = _integer(node, "transB", 0) == 1
    producer = weight.producer()
    if weight.const_value is None and producer is not None and producer.op_type == "Transpose":
        inner = producer.inputs[0]
        if inner is not None and inner.const_value is not None:
            weight, transposed = inner, not transposed
    tensor = weight.const_value
    if tensor is None:
        return Left(node, _BOTH_ACTIVATIONS)
    if tensor.dtype != ir.DataType.FLOAT:
        return Left(node, f"its weight is {tensor.dtype.name.lower()}, not float32")
    if len(tensor.shape) != 2:
        return Left(node, f"its weight has {len(tensor.shape)} axes, not 2")
    outputs = int(tensor.shape.numpy()[0 if transposed else 1])
    bias = _bias(node, outputs)
    if node.op_type == "Gemm" and bias is None and len(node.inputs) > 2 and node.inputs[2]:
        return Left(node, f"a Gemm whose third input is not a constant vector of {outputs}")
    return Linear(node, weight, transposed, bias)


def _unusual_gemm(node: ir.Node) -> str:
    if _integer(node, "transA", 0):
        return "a Gemm that transposes its left input"
    for name in ("alpha", "beta"):
        attribute = node.attributes.get(name)
        if attribute is not None and attribute.as_float() != 1.0:
            return f"a Gemm with {name} {attribute.as_float():g}"
    return ""


def _bias(node: ir.Node, outputs: int) -> ir.Value | None:
    if node.op_type == "Gemm":
        candidates = [node.inputs[2]] if len(node.inputs) > 2 else []
    else:
        consumers = list(node.outputs[0].consumers())
        if (
            len(consumers) != 1
            or consumers[0].op_type != "Add"
            or node.outputs[0].is_graph_output()
        ):
            return None
        candidates = [v for v in consumers[0].inputs if v is not node.outputs[0]]
    for value in candidates:
        if (
            value is not None
            and value.const_value is not None
            and list(value.const_value.shape.numpy()) == [outputs]
        ):
            return value
    return None


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
