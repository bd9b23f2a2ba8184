"""The Gelu pass: x * (1 + erf(x / sqrt 2)) / 2, written out in five operators, as one.

Opset 20 has it. On integers the parts are worse than the whole: each would be rounded, and NPUs
have a Gelu but no Erf (Qualcomm's runs MiniLM's other nodes and leaves these to the CPU).
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import onnx_ir as ir

from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import name_of


def run(model: ir.Model) -> tuple[ir.Model, bool]:
    """Replace each Gelu that is written out, if the graph's opset has the operator."""
    if model.opset_imports.get("", 1) < 20:
        return model, False
    editor = Editor(model)
    changed = False
    for node in list(model.graph):
        if node.op_type == "Erf" and (found := _find(node)):
            x, last = found
            y = editor.before(last, "Gelu", [x], f"{name_of(node)}_gelu")[0]
            editor.replace(last, y)
            changed = True
    if changed:
        editor.finish()
    return model, changed


def _find(erf: ir.Node) -> tuple[ir.Value, ir.Node] | None:
    """The input of the Gelu around an Erf, and its last node; None if it is another formula."""
    inner = erf.inputs[0]
    scaled = inner.producer() if inner is not None else None
    x = _times(scaled, 1 / sqrt(2)) if scaled is not None else None
    plus_one = _only_reader(erf, "Add")
    if x is None or plus_one is None or _constant_of(plus_one) != 1:
        return None
    product = _only_reader(plus_one, "Mul")
    if product is None:
        return None
    other = _other(product, plus_one.outputs[0])
    if other is x:
        last = _only_reader(product, "Mul")
        return (x, last) if last is not None and _constant_of(last) == 0.5 else None
    half = other.producer() if other is not None else None
    return (x, product) if half is not None and _times(half, 0.5) is x else None


def _times(node: ir.Node, factor: float) -> ir.Value | None:
    """What a node multiplies by this factor, or divides by its inverse."""
    scalar = _constant_of(node)
    if scalar is None or node.op_type not in ("Mul", "Div"):
        return None
    if node.op_type == "Div" and node.inputs[0] is not None:
        is_it = node.inputs[0].const_value is None and np.isclose(1 / scalar, factor, rtol=1e-4)
        return node.inputs[0] if is_it else None
    values = [v for v in node.inputs if v is not None and v.const_value is None]
    return values[0] if len(values) == 1 and np.isclose(scalar, factor, rtol=1e-4) else None


def _constant_of(node: ir.Node) -> float | None:
    """The only constant that a node reads, if that is a single number."""
    found = [v.const_value for v in node.inputs if v is not None and v.const_value is not None]
    return float(found[0].numpy().item()) if len(found) == 1 and found[0].size == 1 else None


def _only_reader(node: ir.Node, op_type: str) -> ir.Node | None:
    """The only reader of what a node gives, if it is one of this kind and nobody else sees it."""
    value = node.outputs[0]
    readers = list(value.consumers())
    alone = len(readers) == 1 and not value.is_graph_output()
    return readers[0] if alone and readers[0].op_type == op_type else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    return next((v for v in node.inputs if v is not value), None)
