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
    optimizer.optimize_ir(model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    return model, len(model.graph) != before
