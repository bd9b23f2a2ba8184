"""What a quantized graph ought to answer: the same graph in float on the dequantized weights.

It differs from the float graph by honest rounding of the weights. The quantized graph differs
from it by the rounding of activations, which is bounded by the step, or else a kernel is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.quantize.blocks import Blocks, Form, unpacked
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import constant
from edgetfm.quantize.rounding import Matrix


def dequantized(model: ir.Model) -> ir.Model:
    """A copy in which products made by `int8.run` or `weight_only.run` are float products again.

    Activations that `static.run` rounds are not rounded, and its weights stay as they are, for
    DequantizeLinear makes them float. The smoothing of inputs stays: it is part of what was
    decided.
    """
    oracle = model.clone()
    editor = Editor(oracle)
    for node in list(oracle.graph):
        if node.op_type == "MatMulInteger":
            _in_float(editor, node)
        elif node.op_type == "MatMulNBits":
            _from_blocks(editor, node)
        elif node.op_type == "GatherBlockQuantized":
            _rows_from_blocks(editor, node)
        elif node.op_type == "DequantizeLinear" and (steps := node.inputs[0]) is not None:
            rounds = steps.producer()
            if rounds is not None and rounds.op_type == "QuantizeLinear":
                _unrounded(node, rounds)
    editor.finish()
    return oracle


def _in_float(editor: Editor, node: ir.Node) -> None:
    steps, stored = node.inputs[0], node.inputs[1]
    assert steps is not None
    assert stored is not None
    activation = _producer(steps).inputs[0]
    cast = next(iter(node.outputs[0].consumers()))
    scaled = next(iter(cast.outputs[0].consumers()))
    both = next(_producer(v) for v in scaled.inputs if v is not None and v is not cast.outputs[0])
    scale = next(constant(v) for v in both.inputs if v is not None and v.const_value is not None)
    if stored.const_value is None:  # a table that is stored the other way round
        table = _producer(stored).inputs[0]
        assert table is not None
        weight = constant(table).T * scale
    else:
        weight = constant(stored) * scale
    name = f"{node.name}_dequantized"
    product = editor.before(node, "MatMul", [activation, editor.constant(name, weight)], name)
    editor.replace(scaled, product[0])


def _from_blocks(editor: Editor, node: ir.Node) -> None:
    x, steps, scale, zero, _, bias = (*node.inputs, *[None] * 6)[:6]
    weight = _weight(
        node, node.attributes["K"].as_int(), node.attributes["N"].as_int(), [steps, scale, zero]
    )
    name = f"{node.name}_dequantized"
    y = editor.before(node, "MatMul", [x, editor.constant(name, weight)], name)[0]
    if bias is not None:
        y = editor.before(node, "Add", [y, bias], f"{name}_biased")[0]
    editor.replace(node, y)


def _rows_from_blocks(editor: Editor, node: ir.Node) -> None:
    steps, index, scale, zero = (*node.inputs, None)[:4]
    assert steps is not None
    rows, width = constant(steps).shape
    weight = _weight(
        node, width * 8 // node.attributes["bits"].as_int(), rows, [steps, scale, zero]
    )
    name = f"{node.name}_dequantized"
    table = editor.constant(name, np.ascontiguousarray(weight.T))
    editor.replace(node, editor.before(node, "Gather", [table, index], name)[0])


def _weight(
    node: ir.Node, inputs: int, outputs: int, constants: Sequence[ir.Value | None]
) -> Matrix:
    """The weight [inputs, outputs] that the steps, scales and zero points of a node stand for."""
    steps, scale, zero = constants
    assert steps is not None
    assert scale is not None
    bits, size = (node.attributes[name].as_int() for name in ("bits", "block_size"))
    form = Form(bits, size, zero is None)
    shape = outputs, form.blocks(inputs)
    zeros = (
        None
        if zero is None
        else unpacked(np.asarray(constant(zero), np.uint8), bits)[:, : shape[1]]
    )
    packed = _shaped(steps, (*shape, size * bits // 8))
    return Blocks(form, inputs, packed, _shaped(scale, shape), zeros).dequantized()


def _shaped(value: ir.Value, shape: tuple[int, ...]) -> NDArray[Any]:
    """A constant, or what a Reshape or an Expand to this shape makes of one."""
    if value.const_value is not None:
        return constant(value).reshape(shape)
    change = _producer(value)
    source = change.inputs[0]
    assert source is not None
    array = constant(source)
    return array.reshape(shape) if change.op_type == "Reshape" else np.broadcast_to(array, shape)


def _unrounded(back: ir.Node, rounds: ir.Node) -> None:
    """Let the readers of a rounded activation read it as it was."""
    value, rounded = rounds.inputs[0], back.outputs[0]
    assert value is not None
    if rounded.is_graph_output():  # it has the output's name
        value.name, rounded.name = rounded.name, value.name
    ir.convenience.replace_all_uses_with(rounded, value, replace_graph_outputs=True)


def _producer(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node
