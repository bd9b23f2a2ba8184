"""Equal weights stored once: tied embeddings, shared layers, repeated constants."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import onnx_ir as ir


def run(model: ir.Model) -> tuple[ir.Model, bool]:
    """Let every use of an initializer point to the first one with the same type, shape and bytes.

    Only initializers that share type and shape with another are read, one at a time. Lazy ones are
    left alone: they are weights of a family that were told apart by name, and may be many.
    """
    alike: dict[tuple[object, ...], list[ir.Value]] = defaultdict(list)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and not isinstance(tensor, ir.LazyTensor):
            alike[(tensor.dtype, tuple(tensor.shape.numpy()))].append(value)
    changed = False
    for values in alike.values():
        if len(values) < 2:
            continue
        first: dict[bytes, ir.Value] = {}
        for value in values:
            assert value.const_value is not None
            digest = hashlib.sha256(value.const_value.tobytes()).digest()
            keeper = first.setdefault(digest, value)
            if keeper is not value and not value.is_graph_output():
                value.replace_all_uses_with(keeper)
                assert value.name is not None
                model.graph.initializers.pop(value.name)
                changed = True
    return model, changed
