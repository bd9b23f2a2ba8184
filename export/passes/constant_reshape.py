"""Reshapes to a constant shape, [0, 0, heads, width], instead of shapes computed at run time."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


def run(model: ir.Model) -> tuple[ir.Model, bool]:
    """Give every Reshape that allows it a constant shape.

    0 keeps the input's size at the same place, -1 is the one size that follows from the others:
    a shape with at most one free axis that moved can be written so. Quantizers, NPUs and phones
    want it, and the arithmetic on shapes goes.
    """
    changed = False
    for node in model.graph:
        if node.op_type == "Reshape" and node.domain == "":
            changed |= _fix(model.graph, node)
    if changed:
        RemoveUnusedNodesPass()(model)
    return model, changed


def _fix(graph: ir.Graph, node: ir.Node) -> bool:
    data, shape = node.inputs[0], node.inputs[1]
    target = node.outputs[0].shape
    assert data is not None
    assert shape is not None
    known = ir.convenience.get_const_tensor(shape)
    if known is not None:
        # Without a 0 in it, a shape means the same whatever `allowzero` says.
        return not np.any(known.numpy() == 0) and node.attributes.pop("allowzero", None) is not None
    if data.shape is None or target is None:
        return False
    sizes = _constant(list(data.shape), list(target))
    if sizes is None:
        return False
    name = "shape_" + "_".join(str(s).replace("-", "m") for s in sizes)
    constant = graph.initializers.get(name)
    if constant is None:
        constant = ir.val(name, const_value=ir.tensor(np.array(sizes, np.int64), name=name))
        graph.initializers.add(constant)
    node.replace_input_with(1, constant)
    node.attributes.pop("allowzero", None)
    return True


def _constant(
    data: list[int | ir.SymbolicDim], target: list[int | ir.SymbolicDim]
) -> list[int] | None:
    sizes: list[int] = []
    for place, size in enumerate(target):
        if isinstance(size, int):
            if size == 0:
                return None
            sizes.append(size)
        elif place < len(data) and size.value is not None and data[place] == size:
            sizes.append(0)
        else:
            sizes.append(-1)
    return sizes if sizes.count(-1) <= 1 else None
