"""Small constants folded, sequences and identities gone: onnxscript's own optimizer."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import optimizer

FOLD_LIMIT = 1024
"""Elements. Shape arithmetic is far below it and weights far above: a weight is never folded
into a second copy (a tied decoder's transposed embedding), the runtime does that on loading."""


def run(model: ir.Model) -> tuple[ir.Model, bool]:
    """Fold and clean; weights are left alone."""
    before = len(model.graph)
    optimizer.optimize_ir(
        model,
        input_size_limit=FOLD_LIMIT,
        output_size_limit=FOLD_LIMIT,
        should_fold=_may_fold,
    )
    return model, len(model.graph) != before


def _may_fold(node: ir.Node) -> bool | None:
    """False for a node that reads a weight (its Transpose would be folded at any size)."""
    for value in node.inputs:
        tensor = value.const_value if value is not None else None
        if tensor is not None and tensor.size > FOLD_LIMIT:
            return False
    return None
