"""Split with its sizes written out, as opset 13 has it, instead of opset 18's number of outputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def run(model: ir.Model) -> tuple[ir.Model, bool]:
    """Rewrite every Split whose outputs have known sizes."""
    changed = False
    for node in model.graph:
        if node.op_type == "Split" and node.domain == "" and "num_outputs" in node.attributes:
            changed |= _fix(model.graph, node)
    return model, changed


def _fix(graph: ir.Graph, node: ir.Node) -> bool:
    axis = node.attributes.get_int("axis", 0)
    shapes = [output.shape for output in node.outputs]
    sizes = [shape[axis] if shape is not None else None for shape in shapes]
    if not all(isinstance(size, int) for size in sizes):
        return False
    name = "split_" + "_".join(map(str, sizes))
    constant = graph.initializers.get(name)
    if constant is None:
        constant = ir.val(name, const_value=ir.tensor(np.array(sizes, np.int64), name=name))
        graph.initializers.add(constant)
    node.resize_inputs(2)
    node.replace_input_with(1, constant)
    node.attributes.pop("num_outputs")
    return True
