"""Gelu written so that onnxruntime finds it: as torch.export writes it, it stays five nodes."""

from __future__ import annotations

import onnx_ir as ir

from edgetfm.quantize.edit import Editor


def run(model: ir.Model) -> tuple[ir.Model, bool]:
    """x * (0.5 * (1 + erf)) becomes (x * (1 + erf)) * 0.5: the same, for 0.5 is a power of two."""
    editor = Editor(model)
    changed = False
    for node in list(model.graph):
        for place, value in enumerate(node.inputs if node.op_type == "Mul" else ()):
            inner = None if value is None else value.producer()
            parts = _halved(inner)
            if inner is None or parts is None or len(inner.outputs[0].consumers()) != 1:
                continue
            half, sum_ = parts
            x = node.inputs[1 - place]
            product = editor.before(node, "Mul", [x, sum_], f"{node.name}_doubled")[0]
            editor.replace(node, editor.before(node, "Mul", [product, half], f"{node.name}_")[0])
            changed = True
            break
    if changed:
        editor.finish()
    return model, changed


def _halved(node: ir.Node | None) -> tuple[ir.Value, ir.Value] | None:
    """The 0.5 and the 1 + erf that `node` multiplies, None if it is another product."""
    if node is None or node.op_type != "Mul":
        return None
    for half, sum_ in (node.inputs, node.inputs[::-1]):
        if half is None or sum_ is None or half.const_value is None:
            continue
        add = sum_.producer()
        if add is None or add.op_type != "Add" or half.const_value.size != 1:
            continue
        behind = [v.producer() for v in add.inputs if v is not None]
        if any(erf is not None and erf.op_type == "Erf" for erf in behind):
            return half, sum_
    return None
