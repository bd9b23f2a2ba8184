"""The float16 pass: weights and arithmetic in half precision, inputs and outputs as they were.

Half precision ends at 65504 and is coarse below 6e-5. So sums over many elements, powers, roots
and divisions by an activation stay in float32, and so does whatever has a constant that half
cannot hold (an epsilon of 1e-12 would become 0). LayerNormalization is left to runtimes, which
compute its statistics in float32 (`stash_type`), as they do the sums of Softmax.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, ShapeInferencePass

from edgetfm.errors import InputError
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import constant

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_LARGEST, _SMALLEST = 65504.0, 6.2e-5

_SENSITIVE = frozenset(
    {"CumSum", "Exp", "Log", "LogSoftmax", "Pow", "Range", "Reciprocal", "Sqrt"}
    | {"ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum"}
    | {"ReduceSumSquare", "GlobalAveragePool", "InstanceNormalization"}
)
"""Sums over many elements, and functions that leave the range of half quickly."""

_FLOAT_ONLY = frozenset({"ConstantOfShape", "EyeLike", "RandomNormal", "RandomUniform", "Resize"})
"""Operators that make float32 by an attribute, or whose parameters must be float32."""


def convert(model: ir.Model) -> tuple[ir.Model, dict[str, Any]]:
    """Compute in float16; changes `model`. Weights are cast one by one when they are written."""
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    _infer_types(model)
    half = _Half(model)
    kept: Counter[str] = Counter()
    for node in list(model.graph):
        reason = _stays(node)
        half.put(node, _FLOAT if reason else _HALF)
        if reason and any(v.dtype == _FLOAT for v in node.outputs):
            kept[f"{node.op_type}: {reason}"] += 1
    half.restore_outputs()
    half.editor.finish()
    weights = [v.const_value for v in model.graph.initializers.values() if v.const_value]
    facts = {
        "weights_in_float16": sum(t.dtype == _HALF for t in weights),
        "kept_in_float32": dict(kept),
    }
    return model, facts


class _Half:
    """Puts nodes into float16 in graph order; casts where the types of two nodes differ."""

    def __init__(self, model: ir.Model) -> None:
        self.editor = Editor(model)
        self.graph = model.graph
        self._made: dict[tuple[int, ir.DataType], ir.Value] = {}

    def put(self, node: ir.Node, wanted: ir.DataType) -> None:
        """Give `node` its float inputs as `wanted`, and mark its outputs."""
        for position, value in enumerate(node.inputs):
            if value is not None and value.dtype in (_FLOAT, _HALF) and value.dtype != wanted:
                node.replace_input_with(position, self._cast(value, wanted, node))
        if wanted == _HALF:
            for output in node.outputs:
                if output.dtype == _FLOAT:
                    output.type = ir.TensorType(_HALF)  # clones share type objects
            if node.op_type == "Cast" and node.attributes["to"].as_int() == _FLOAT:
                node.attributes["to"] = ir.AttrInt64("to", _HALF)

    def _cast(self, value: ir.Value, wanted: ir.DataType, before: ir.Node) -> ir.Value:
        key = (id(value), wanted)
        if key not in self._made:
            self._made[key] = (
                self.editor.initializer(f"{value.name}_{_SUFFIX[wanted]}", _as_half(value))
                if value.const_value is not None
                else self._node(value, wanted, before)
            )
        return self._made[key]

    def _node(self, value: ir.Value, wanted: ir.DataType, before: ir.Node) -> ir.Value:
        name = f"{value.name}_{_SUFFIX[wanted]}"
        cast = self.editor.before(before, "Cast", [value], name, to=wanted)[0]
        cast.type, cast.shape = ir.TensorType(wanted), value.shape
        return cast

    def restore_outputs(self) -> None:
        """Make the graph's outputs float32 again, under their names."""
        for position, value in enumerate(list(self.graph.outputs)):
            if value.dtype != _HALF:
                continue
            name, value.name = value.name, self.editor.unique(f"{value.name}_half")
            node = ir.node("Cast", [value], {"to": _FLOAT}, name=self.editor.unique(f"{name}_cast"))
            cast = node.outputs[0]
            cast.name, cast.type, cast.shape = name, ir.TensorType(_FLOAT), value.shape
            self.graph.append(node)
            self.graph.outputs[position] = cast


_SUFFIX = {_FLOAT: "float", _HALF: "half"}


def _as_half(value: ir.Value) -> ir.LazyTensor:
    """The constant in float16, computed when it is written; what is too large stays finite."""
    tensor = value.const_value
    assert tensor is not None

    def cast() -> ir.TensorProtocol:
        return ir.tensor(np.clip(tensor.numpy(), -_LARGEST, _LARGEST).astype(np.float16))

    return ir.LazyTensor(cast, dtype=_HALF, shape=ir.Shape(tensor.shape.numpy()))


def _stays(node: ir.Node) -> str:
    """Why a node stays in float32, '' if it need not."""
    if node.domain not in ("", "ai.onnx"):
        return f"an operator of {node.domain}"
    if node.op_type in _FLOAT_ONLY:
        return "defined in float32"
    if node.op_type in _SENSITIVE:
        return "a sum or power leaves the range of half"
    if node.op_type == "Div" and node.inputs[1] is not None and node.inputs[1].const_value is None:
        return "a divisor may be too small for half"
    for value in node.inputs:
        if value is not None and _is_small_float(value):
            sizes = np.abs(constant(value))
            if ((sizes > 0) & (sizes < _SMALLEST)).all() or (sizes > _LARGEST).any():
                return "a constant that half cannot hold"
    return ""


def _is_small_float(value: ir.Value) -> bool:
    """A scalar or the like: in large weights a few tiny numbers may well become 0."""
    tensor = value.const_value
    return tensor is not None and tensor.dtype == _FLOAT and tensor.size <= 16


def _infer_types(model: ir.Model) -> None:
    """Every value's type, inferred where the file does not say."""
    while any(v.dtype is None for node in model.graph for v in node.outputs if v.name):
        ShapeInferencePass()(model)
        if not _type_attention(model):
            break
    unknown = [v.name for node in model.graph for v in node.outputs if v.name and v.dtype is None]
    bodies = [node.name for node in model.graph if any(True for _ in _subgraphs(node))]
    if unknown or bodies:
        what = f"the types of {', '.join(map(str, unknown[:5]))}" if unknown else f"{bodies[0]}"
        raise InputError(f"float16 is not possible: {what} cannot be followed")


_ATTENTION = ("GroupQueryAttention", "MultiHeadAttention")
"""onnxruntime's own, whose outputs have the type of their queries; onnx knows nothing of them."""


def _type_attention(model: ir.Model) -> bool:
    """Give the outputs of attention their type; whether there was one without."""
    found = False
    for node in model.graph:
        query = node.inputs[0] if node.op_type in _ATTENTION else None
        dtype = None if query is None else query.dtype
        for value in node.outputs:
            if dtype is not None and value.name and value.dtype is None:
                value.type = ir.TensorType(dtype)
                found = True
    return found


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    return [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
