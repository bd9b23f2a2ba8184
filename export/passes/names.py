"""Nodes named by the module they come from: `layers.0.attention.qkv/MatMul`."""

from __future__ import annotations

import re
from collections import Counter

import onnx_ir as ir

_SCOPES = "namespace"
"""The exporter's note on every node: `a: Class/a.b: Class/matmul: aten.matmul.default`."""

_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"
"""What torch.export writes for a node that its own passes made."""


def run(model: ir.Model) -> tuple[ir.Model, bool]:
    """Name every node and what it gives; inputs, outputs and weights keep their names.

    A node the exporter says nothing about (made by a fold) belongs where its input comes from.
    """
    taken: Counter[str] = Counter()
    scopes: dict[ir.Node, str] = {}
    fixed = {id(v) for v in (*model.graph.inputs, *model.graph.outputs)}
    for node in model.graph:
        scope = _scope(node)
        if scope is None:
            before = (v.producer() for v in node.inputs if v is not None)
            scope = next((scopes[p] for p in before if p is not None and p in scopes), "")
        scopes[node] = scope
        name = f"{scope}/{node.op_type}" if scope else node.op_type
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
        for place, value in enumerate(node.outputs):
            if id(value) not in fixed:
                value.name = f"{node.name}:{place}"
    return model, True


def _scope(node: ir.Node) -> str | None:
    text = node.metadata_props.get(_SCOPES)
    if text is None:
        return None
    paths = [part.partition(":")[0].strip() for part in text.split("/")]
    # The last part is the operation itself, the first the module that was exported.
    inside = [p for p in paths[:-1] if re.fullmatch(r"[\w.]+", p)]
    if _NO_MODULE in inside:
        return None
    return inside[-1] if inside else ""
