"""The products of u8 activations with s8 weights in a quantized graph, in either form.

dynamic: DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul
static:  QuantizeLinear -> DequantizeLinear -> MatMul or Gemm <- DequantizeLinear <- s8 weight
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.quantize.linear import name_of


@dataclass(frozen=True)
class Product:
    """One product as a runtime does it in integers.

    name: of the node in the float graph. x: the u8 activation. scale, zero: its step and zero
    point, None for 1 and 0. weight: the s8 initializer, stored [inputs, outputs] or, if
    `transposed`, [outputs, inputs]. step: of each output [outputs], or of all.
    """

    name: str
    x: ir.Value
    scale: ir.Value | None
    zero: ir.Value | None
    weight: ir.Value
    transposed: bool
    step: NDArray[np.float32]

    def matrix(self) -> NDArray[np.int8]:
        """The weight, [inputs, outputs]."""
        values = _array(self.weight)
        return np.ascontiguousarray(values.T if self.transposed else values)

    @property
    def channels(self) -> int:
        """How many inputs are summed up."""
        tensor = self.weight.const_value
        assert tensor is not None
        return int(tensor.shape.numpy()[1 if self.transposed else 0])


def find_products(model: ir.Model) -> list[Product]:
    """The products in graph order."""
    found = []
    for node in model.graph:
        if node.domain == "" and node.op_type == "MatMulInteger":
            found.append(_dynamic(node))
        elif node.domain == "" and node.op_type in ("MatMul", "Gemm"):
            found.append(_static(node))
    return [product for product in found if product is not None]


def _dynamic(node: ir.Node) -> Product | None:
    x = node.inputs[0]
    stored = _stored(node.inputs[1])
    quantize = _producer(x, "DynamicQuantizeLinear")
    if x is None or stored is None or (quantize is None and x.dtype != ir.DataType.UINT8):
        return None
    weight, transposed, _ = stored
    return Product(
        _float_name(node, "_int32"),
        x,
        None if quantize is None else quantize.outputs[1],
        node.inputs[2] if len(node.inputs) > 2 else None,
        weight,
        transposed,
        _step_behind(node),
    )


def _static(node: ir.Node) -> Product | None:
    activation = _producer(node.inputs[0], "DequantizeLinear")
    stored = _stored(node.inputs[1])
    if activation is None or stored is None:
        return None
    weight, transposed, step = stored
    x = activation.inputs[0]
    if x is None or x.const_value is not None or x.dtype != ir.DataType.UINT8 or step is None:
        return None
    if node.op_type == "Gemm":
        # Without steps to give, onnxruntime multiplies a Gemm in float.
        if any(user.op_type != "QuantizeLinear" for user in node.outputs[0].consumers()):
            return None
        attribute = node.attributes.get("transB")
        transposed ^= attribute is not None and attribute.as_int() == 1
    zero = activation.inputs[2] if len(activation.inputs) > 2 else None
    name, scale = _float_name(node, "_product"), activation.inputs[1]
    return Product(name, x, scale, zero, weight, transposed, _array(step).ravel())


def _float_name(node: ir.Node, ending: str) -> str:
    """The name that the node had before a pass put `ending` behind it, and perhaps a number."""
    return re.sub(rf"{ending}(_\d+)?$", "", name_of(node))


def _stored(value: ir.Value | None) -> tuple[ir.Value, bool, ir.Value | None] | None:
    """The s8 initializer behind a weight, whether it lies the other way round, and its step."""
    transposed, step = False, None
    while value is not None and value.const_value is None:
        producer = value.producer()
        if producer is None or producer.op_type not in ("Transpose", "DequantizeLinear"):
            return None
        transposed ^= producer.op_type == "Transpose"
        if producer.op_type == "DequantizeLinear":
            step = producer.inputs[1]
        value = producer.inputs[0]
    if value is None or value.const_value is None or len(value.const_value.shape) != 2:
        return None
    if value.const_value.dtype != ir.DataType.INT8:
        return None
    return value, transposed, step


def _step_behind(node: ir.Node) -> NDArray[np.float32]:
    """The constant that the int32 output is multiplied with, along with the activation's."""
    for cast in node.outputs[0].consumers():
        for scaled in cast.outputs[0].consumers():
            for factor in scaled.inputs:
                both = _producer(factor, "Mul")
                for value in both.inputs if both is not None else (factor,):
                    if value is not None and value.const_value is not None:
                        return _array(value).ravel()
    return np.ones(1, np.float32)


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _array(value: ir.Value) -> NDArray[Any]:
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy())
