"""Where a smoothing scale goes for nothing: into weights in front of the activation, exactly.

A scale on the channels of an activation can move upstream through everything that commutes with
it: reshapes, transposes and splits, a Relu, the value side of an attention product, down to the
columns of a matrix product and its bias, or the weight and bias of a norm that feeds nothing else.
Which column a channel comes from is found by sending column numbers through the same operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import Linear, constant, name_of
from edgetfm.quantize.rounding import Matrix

Indices = NDArray[np.int64]

_FREE = (2, 3, 7, 11)  # sizes of free axes of the numbers sent through, unequal and not 1


@dataclass(frozen=True)
class IntoNorm:
    """The scale divides the weight and bias of this LayerNormalization or the like."""

    node: ir.Node

    @property
    def name(self) -> str:
        """The norm's name."""
        return name_of(self.node)


@dataclass(frozen=True)
class IntoColumns:
    """Channel c of the activation is column `columns[c]` of `linear`'s output."""

    linear: Linear
    columns: Indices

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.linear.name


Fold = IntoNorm | IntoColumns

_NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")


def find_fold(x: ir.Value, readers: Sequence[Linear], linears: Sequence[Linear]) -> Fold | None:
    """Where a scale on `x`, which `readers` read, can go; None if only a Mul will do."""
    if x.is_graph_output() or len(x.consumers()) != len({id(r.node) for r in readers}):
        return None
    producer = x.producer()
    if producer is None:
        return None
    if producer.op_type in _NORMS:
        if all(v.const_value is not None for v in producer.inputs[1:] if v is not None):
            return IntoNorm(producer)
        return None
    return _into_columns(x, linears)


def _into_columns(x: ir.Value, linears: Sequence[Linear]) -> IntoColumns | None:
    ends = {id(end_of(linear)): linear for linear in linears}
    path: list[tuple[ir.Node, int]] = []
    value = x
    while id(value) not in ends:
        node = value.producer()
        if node is None or (operand := _operand(node)) is None or value.is_graph_output():
            return None
        path.insert(0, (node, value.index() or 0))
        inner = node.inputs[operand]
        if inner is None:
            return None
        value = inner
    linear = ends[id(value)]
    columns = _columns(path, _numbers(value, linear.shape[1]))
    if columns is None or not _used_only_on(path, x, value, columns, linear.shape[1]):
        return None
    return IntoColumns(linear, columns)


def end_of(linear: Linear) -> ir.Value:
    """The output of a linear layer, its bias included."""
    return (linear.add or linear.node).outputs[0]


_MOVES = ("Reshape", "Transpose", "Split", "Squeeze", "Unsqueeze", "Identity")


def _operand(node: ir.Node) -> int | None:
    """The input of `node` on which a scale commutes with it, None if there is none."""
    if node.domain != "":
        return None
    if node.op_type in _MOVES or node.op_type == "Relu":
        return 0
    if node.op_type == "MatMul" and all(
        v is not None and v.const_value is None for v in node.inputs
    ):
        return 1  # attention weights @ values: the columns of the values are those of the output
    return None


def _columns(path: Sequence[tuple[ir.Node, int]], numbers: Indices) -> Indices | None:
    """The column of the linear layer that each channel at the end of `path` comes from."""
    sent: Indices | None = numbers
    for node, output in path:
        sent = None if sent is None else _through(node, output, sent)
    if sent is None:
        return None
    rows = sent.reshape(-1, sent.shape[-1])
    return None if (rows != rows[0]).any() else rows[0]


def _numbers(value: ir.Value, outputs: int) -> Indices:
    """An array of the shape of `value` in which each entry is the number of its column."""
    known = ["batch", "sequence"] if value.shape is None else list(value.shape)[:-1]
    free = iter(_FREE)
    sizes = [d if isinstance(d, int) else next(free) for d in known]
    return np.broadcast_to(np.arange(outputs), (*sizes, outputs)).copy()


def _through(node: ir.Node, output: int, x: Indices) -> Indices | None:
    """Column numbers as `node` hands them on; None if it does more than move or scale them.

    Free axes have assumed sizes: None also where those do not go through.
    """
    try:
        return _moved(node, output, x)
    except (ValueError, IndexError):  # numpy's, of a shape that does not fit
        return None


def _moved(node: ir.Node, output: int, x: Indices) -> Indices | None:
    axes = _integers(node, "axes", 1)
    match node.op_type:
        case "Identity" | "Relu":
            return x
        case "Transpose":
            order = node.attributes.get("perm")
            return x.transpose(None if order is None else list(order.as_ints()))
        case "Squeeze":
            return None if axes is None else np.squeeze(x, tuple(axes))
        case "Unsqueeze":
            return None if axes is None else np.expand_dims(x, tuple(axes))
        case "Reshape":
            shape = _integers(node, "shape", 1)
            if shape is None:
                return None
            return x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(shape)])
        case "Split":
            axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
            sizes = _integers(node, "split", 1)
            at = len(node.outputs) if sizes is None else list(np.cumsum(sizes)[:-1])
            return np.asarray(np.split(x, at, axis)[output])
        case "MatMul":
            # A mix over tokens: every token of a channel must come from the same column.
            same = (x == x[..., :1, :]).all()
            return x if same else None
    return None


def _integers(node: ir.Node, attribute: str, position: int) -> list[int] | None:
    """A list of integers given as an attribute or as a constant input."""
    if attribute in node.attributes:
        return list(node.attributes[attribute].as_ints())
    if len(node.inputs) <= position or (value := node.inputs[position]) is None:
        return None
    if value.const_value is None:
        return None
    return [int(i) for i in constant(value).ravel()]


def _used_only_on(
    path: Sequence[tuple[ir.Node, int]],
    x: ir.Value,
    start: ir.Value,
    columns: Indices,
    outputs: int,
) -> bool:
    """Whether nothing but `x` ever sees these columns: they may then be scaled.

    A value on the way may have other readers (query and key leave by a Split) as long as it is
    a Split that parts them from these columns.
    """
    on_path = {id(node) for node, _ in path}
    scaled = set(columns.tolist())
    sent: Indices | None = _numbers(start, outputs)
    value = start
    for node, output in path:
        if value.is_graph_output() or any(id(user) not in on_path for user in value.consumers()):
            return False
        if sent is None:
            return False
        for other in node.outputs:
            if other.index() != output and other.consumers():
                elsewhere = _through(node, other.index() or 0, sent)
                if elsewhere is None or scaled & set(elsewhere.ravel().tolist()):
                    return False
        sent = _through(node, output, sent)
        value = node.outputs[output]
    return value is x


def apply_fold(editor: Editor, fold: Fold, scale: Matrix) -> None:
    """Divide an activation's channels by `scale` [channels] in the float weights before it."""
    if isinstance(fold, IntoNorm):
        for position in range(1, len(fold.node.inputs)):
            _divide(editor, fold.node, position, slice(None), scale)
        return
    linear, columns = fold.linear, fold.columns
    weight = linear.matrix().copy()
    weight[:, columns] /= scale
    stored = weight.T if linear.transposed and linear.node.op_type == "Gemm" else weight
    linear.node.replace_input_with(1, editor.constant(f"{linear.weight.name}_folded", stored))
    if linear.bias is not None:
        node = linear.add or linear.node
        position = next(i for i, v in enumerate(node.inputs) if v is linear.bias)
        _divide(editor, node, position, columns, scale)


def _divide(
    editor: Editor, node: ir.Node, position: int, where: slice | Indices, by: Matrix
) -> None:
    value = node.inputs[position]
    if value is not None:
        divided = constant(value).copy()
        divided[where] /= by
        node.replace_input_with(position, editor.constant(f"{value.name}_folded", divided))
