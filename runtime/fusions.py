"""What onnxruntime should fuse in a graph, and what it did: a row of EXPECTED each.

A fusion that does not happen costs time in silence: an int8 product that stays in five nodes can
be slower than the float product that it replaced. Onnxruntime's attention is not expected: on CPUs
its plain products are no slower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Expectation:
    """A pattern that begins at some nodes of a graph, and the operators that it should become."""

    name: str
    starts: Callable[[ir.Node], bool]
    becomes: tuple[str, ...]


@dataclass(frozen=True)
class Fusion:
    """How often a pattern is in the graph as written, and how much of it was matched.

    became: operator -> how many there are in the optimized graph.
    """

    name: str
    expected: int
    matched: int
    became: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The form it has in facts."""
        return asdict(self)


def _is(*op_types: str) -> Callable[[ir.Node], bool]:
    return lambda node: node.op_type in op_types


def _producer(node: ir.Node, index: int) -> str:
    """The operator that makes an input; '' for a constant or an input of the graph."""
    value = node.inputs[index] if index < len(node.inputs) else None
    made_by = None if value is None else value.producer()
    return "" if made_by is None else str(made_by.op_type)


def _between_quantized(node: ir.Node) -> bool:
    return node.op_type in ("MatMul", "Gemm", "Conv") and all(
        _producer(node, i) == "DequantizeLinear" for i in (0, 1)
    )


def _weight_only(node: ir.Node) -> bool:
    sides = (_producer(node, 0), _producer(node, 1))
    return (
        node.op_type == "MatMul"
        and sides[1] == "DequantizeLinear"
        and sides[0] != "DequantizeLinear"
    )


def _gelu(node: ir.Node) -> bool:
    return node.op_type in ("Gelu", "Erf")


def _normalization(node: ir.Node) -> bool:
    """The operator itself, or the root of a mean of squares, as exporters write it out."""
    if node.op_type != "Sqrt":
        return node.op_type == "LayerNormalization"
    value = node.inputs[0]
    add = None if value is None else value.producer()
    return (
        add is not None
        and add.op_type == "Add"
        and "ReduceMean" in (_producer(add, 0), _producer(add, 1))
    )


def _turned_or_scaled(node: ir.Node) -> bool:
    """A product of two activations, one of them transposed or scaled right before or after."""
    if node.op_type != "MatMul" or any(v is None or v.const_value is not None for v in node.inputs):
        return False
    after = [user.op_type for user in node.outputs[0].consumers()]
    beside = {_producer(node, 0), _producer(node, 1)}
    return not beside.isdisjoint(("Transpose", "Mul", "Div")) or after in (["Mul"], ["Div"])


EXPECTED = (
    Expectation(
        "dynamic int8 products",
        _is("MatMulInteger"),
        ("DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
    ),
    Expectation(
        "static int8 products",
        _between_quantized,
        ("QLinearMatMul", "QGemm", "QLinearConv", "MatMulIntegerToFloat"),
    ),
    Expectation("weight-only products", _weight_only, ("MatMulNBits",)),
    Expectation("products in blocks", _is("MatMulNBits"), ("MatMulNBits",)),
    Expectation("GELU", _gelu, ("Gelu", "BiasGelu", "FastGelu", "QuickGelu")),
    Expectation(
        "layer normalization",
        _normalization,
        ("LayerNormalization", "SkipLayerNormalization", "SimplifiedLayerNormalization"),
    ),
    Expectation("transposes and scales of attention", _turned_or_scaled, ("FusedMatMul",)),
)
"""In the order of what they are worth."""


def fusions(nodes: Iterable[ir.Node], optimized: Mapping[str, int]) -> tuple[Fusion, ...]:
    """How each pattern that is in a graph fared; patterns that it does not have are left out.

    nodes: of the graph as written. optimized: operator -> count in what onnxruntime runs.
    """
    found = list(nodes)
    rows = []
    for row in EXPECTED:
        if expected := sum(map(row.starts, found)):
            became = {op: optimized[op] for op in row.becomes if optimized.get(op)}
            rows.append(Fusion(row.name, expected, min(expected, sum(became.values())), became))
    return tuple(rows)
