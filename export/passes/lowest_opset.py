"""The lowest opset and IR version that mean the same, so that older runtimes load the graph."""

from __future__ import annotations

import onnx
import onnx_ir as ir

LOWEST = 17
"""LayerNormalization came with it; nothing that edgetfm runs on is older."""

_UNCHANGED = {("Split", 18): (13, "num_outputs")}
"""(operator, version) -> (the version that means the same unless this attribute is there)."""


def run(model: ir.Model) -> tuple[ir.Model, bool]:
    """Declare what the nodes need and no more."""
    declared = model.graph.opset_imports.get("", LOWEST)
    needed = max((_since(n, declared) for n in model.graph if n.domain == ""), default=LOWEST)
    opset = max(LOWEST, needed)
    model.graph.opset_imports[""] = opset
    version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    changed = opset != declared or version != model.ir_version
    model.ir_version = version
    return model, changed


def _since(node: ir.Node, declared: int) -> int:
    version: int = onnx.defs.get_schema(node.op_type, declared).since_version
    older, attribute = _UNCHANGED.get((node.op_type, version), (version, ""))
    return version if attribute in node.attributes else older
