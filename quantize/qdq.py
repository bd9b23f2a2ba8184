"""Pairs of QuantizeLinear and DequantizeLinear: the form in which every runtime reads int8."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import constant
from edgetfm.quantize.ranges import Range
from edgetfm.quantize.rounding import round_nearest

LEVELS = {8: 255, 16: 65535}
"""Steps of an unsigned grid of that many bits."""

_TYPES = {8: np.uint8, 16: np.uint16}


@dataclass(frozen=True)
class Grid:
    """The step and the zero point of one tensor, as initializers."""

    step: ir.Value
    zero: ir.Value


def grid(editor: Editor, name: str, chosen: Range, bits: int) -> Grid:
    """The initializers for a range."""
    step, zero = chosen.grid(LEVELS[bits])
    return Grid(
        editor.constant(f"{name}_step", np.asarray(step, np.float32)),
        editor.constant(f"{name}_zero", np.asarray(zero, _TYPES[bits])),
    )


def round_trip(
    editor: Editor, value: ir.Value, of: Grid, readers: Collection[ir.Node], *, output: bool = False
) -> ir.Value:
    """Let `readers` of a tensor, and the graph's output if asked for, read it rounded to a grid."""
    name = str(value.name)
    producer = value.producer()
    quantize = ir.node("QuantizeLinear", [value, of.step, of.zero], name=editor.unique(f"{name}_q"))
    steps = quantize.outputs[0]
    steps.name = str(quantize.name)
    back = ir.node("DequantizeLinear", [steps, of.step, of.zero], name=editor.unique(f"{name}_dq"))
    rounded = back.outputs[0]
    rounded.name, rounded.type, rounded.shape = str(back.name), value.type, value.shape
    steps.type, steps.shape = ir.TensorType(of.zero.dtype or ir.DataType.UINT8), value.shape
    if producer is None:
        editor.graph.insert_before(editor.graph[0], [quantize, back])
    else:
        editor.graph.insert_after(producer, [quantize, back])
    for reader in readers:
        for place, read in enumerate(reader.inputs):
            if read is value:
                reader.replace_input_with(place, rounded)
    if output:
        for place, given in enumerate(editor.graph.outputs):
            if given is value:
                editor.graph.outputs[place] = rounded
        value.name, rounded.name = rounded.name, name
    return rounded


def dequantized_weight(
    editor: Editor,
    before: ir.Node,
    name: str,
    stored: ir.Value | NDArray[Any],
    step: NDArray[np.float32],
    axis: int,
) -> ir.Value:
    """A float weight or bias made from the integers `stored`, a step for each place on `axis`."""
    values = editor.constant(f"{name}_steps", stored) if isinstance(stored, np.ndarray) else stored
    inputs = [values, editor.constant(f"{name}_step", step)]
    if values.dtype != ir.DataType.INT32:
        # Always 0, and written out all the same: some readers take it for granted.
        inputs.append(editor.constant(f"{name}_zero", np.zeros(len(step), np.int8)))
    weight = editor.before(before, "DequantizeLinear", inputs, f"{name}_dq", axis=axis)[0]
    weight.type = ir.TensorType(ir.DataType.FLOAT)
    return weight


def round_convolution(editor: Editor, node: ir.Node) -> None:
    """Put the constant weight of a Conv on int8 grids, one an output, and its bias on int32's.

    The step of the bias is the product of the input's and the weight's, as kernels add it to sums.
    """
    x, weight = node.inputs[0], node.inputs[1]
    assert x is not None
    assert weight is not None
    source = x.producer()
    if weight.const_value is None or source is None or source.op_type != "DequantizeLinear":
        return
    array = constant(weight)
    rounded = round_nearest(array.reshape(len(array), -1).T)
    stored = rounded.values.T.reshape(array.shape)
    name = str(weight.name)
    made = dequantized_weight(editor, node, name, stored, rounded.scale, axis=0)
    made.shape = weight.shape
    node.replace_input_with(1, made)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    step = source.inputs[1]
    if bias is not None and bias.const_value is not None and step is not None:
        steps = np.asarray(rounded.scale * constant(step), np.float32)
        sums = np.clip(np.rint(constant(bias) / steps.astype(np.float64)), -_LARGEST, _LARGEST)
        stored_bias = sums.astype(np.int32)
        bias_name = str(bias.name)
        made = dequantized_weight(editor, node, bias_name, stored_bias, steps, axis=0)
        made.shape = bias.shape
        node.replace_input_with(2, made)


_LARGEST = 2**31 - 1


def rounded_constant(editor: Editor, before: ir.Node, value: ir.Value, bits: int) -> ir.Value:
    """The float constant `value` on a grid of its own; what is single there stays exact."""
    array = constant(value)
    name = str(value.name)
    made = grid(editor, name, Range.holding(float(array.min()), float(array.max())), bits)
    step, zero = (v.const_value for v in (made.step, made.zero))
    assert step is not None
    assert zero is not None
    steps = np.rint(array / step.numpy()) + zero.numpy().astype(np.float32)
    stored = editor.constant(f"{name}_steps", np.clip(steps, 0, LEVELS[bits]).astype(_TYPES[bits]))
    inputs = [stored, made.step, made.zero]
    rounded = editor.before(before, "DequantizeLinear", inputs, f"{name}_dq")[0]
    rounded.type, rounded.shape = value.type, value.shape
    return rounded
