"""The graph edits after tracing, in order. Each is model in, (model, changed) out."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgetfm.export.passes import (
    constant_reshape,
    deduplicate,
    lowest_opset,
    names,
    simplify,
    split_sizes,
    strip,
)
from edgetfm.merged import merge

Pass = Callable[[ir.Model], tuple[ir.Model, bool]]

PASSES: tuple[Pass, ...] = (
    simplify.run,
    constant_reshape.run,
    split_sizes.run,
    deduplicate.run,
    names.run,
    strip.run,
    lowest_opset.run,
    merge,
)
