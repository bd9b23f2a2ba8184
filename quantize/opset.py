"""A later opset that means the same, for graphs that need a type it brought."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgetfm.errors import InputError
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import name_of

WITH_16_BITS = 21
"""The opset from which QuantizeLinear takes uint16. onnxruntime's own tools raise to it too, and
its QNN provider reads it; the older form, in the domain com.microsoft, is onnxruntime's alone."""

_IR_VERSION = 10  # came with opset 21; onnxruntime reads it since 1.18

_AXES = frozenset(
    f"Reduce{how}"
    for how in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)
"""Their axes became an input with opset 18."""

_CHANGED = frozenset({"DFT", "GridSample", "GroupNormalization", "Resize", "Upsample"})
"""Their defaults or attributes changed on the way."""


def run(model: ir.Model, least: int = WITH_16_BITS) -> tuple[ir.Model, bool]:
    """Rewrite a graph of opset 13 or later for opset `least`, if it is older.

    Raises InputError with the nodes for which that is not simply so.
    """
    declared = model.opset_imports.get("", 1)
    if declared >= least:
        return model, False
    changed = [name_of(n) for n in model.graph if n.domain == "" and n.op_type in _CHANGED]
    if changed or declared < 13:
        reason = f"has {', '.join(changed)}" if changed else "is older than opset 13"
        raise InputError(
            f"16-bit activations need opset {least}, the graph has {declared} and {reason}: "
            f"export it with opset {least}, or use int8-static"
        )
    editor = Editor(model)
    for node in model.graph:
        if node.domain == "" and declared < 18:
            _to_18(editor, node)
    model.opset_imports[""] = least
    model.ir_version = max(model.ir_version or 0, _IR_VERSION)
    return model, True


def _to_18(editor: Editor, node: ir.Node) -> None:
    if node.op_type == "Split" and (len(node.inputs) < 2 or node.inputs[1] is None):
        node.attributes.add(ir.AttrInt64("num_outputs", len(node.outputs)))
    if node.op_type in _AXES and "axes" in node.attributes:
        axes = np.array(node.attributes.pop("axes").as_ints(), np.int64)
        node.resize_inputs(2)
        node.replace_input_with(1, editor.constant(f"{name_of(node)}_axes", axes))
