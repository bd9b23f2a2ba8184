"""How many multiply-accumulates the less usual matrix products are."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import onnx_ir as ir

Shape = tuple[int, ...]

_LIKE_MATMUL = ("FusedGemm", "FusedMatMul", "GemmFastGelu", "TransposeMatMul")


def unusual_work(node: ir.Node, shape_of: Callable[[ir.Value], Shape]) -> int | None:
    """The multiply-accumulates of an Attention, an Einsum or a fused operator.

    None for what is counted as a MatMul is; 0 where a shape is not known, or for an operator that
    is not known to multiply.
    """
    shapes = [() if v is None else shape_of(v) for v in node.inputs]
    output = shape_of(node.outputs[0])
    if node.op_type == "Attention" and not (shapes[0] and shapes[1] and output):
        return 0
    if node.op_type == "Attention" and node.domain:
        # x [batch, tokens, width] by [width, queries, keys and values]: then each token by each
        return prod(shapes[0]) * shapes[1][-1] + 2 * prod(output) * shapes[0][-2]
    if node.op_type == "Attention":  # queries by keys, weights by values
        return (prod(shapes[0]) + prod(output)) * shapes[1][-2]
    if node.op_type == "Einsum":
        return _einsum(node, shapes)
    return 0 if node.domain and node.op_type not in _LIKE_MATMUL else None


def _einsum(node: ir.Node, shapes: list[Shape]) -> int:
    """The product of the sizes of all its axes."""
    terms = node.attributes["equation"].as_string().replace(" ", "").split("->")[0].split(",")
    if any(len(t) != len(s) or "." in t for t, s in zip(terms, shapes, strict=True)):
        return 0
    axes = {a: d for t, s in zip(terms, shapes, strict=True) for a, d in zip(t, s, strict=True)}
    return prod(axes.values())
