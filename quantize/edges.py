"""Which activations a static recipe rounds: the edges between operators, with the exceptions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgetfm.quantize.histogram import Histogram
from edgetfm.quantize.linear import name_of
from edgetfm.quantize.masks import Masks
from edgetfm.quantize.ranges import Range

MARGIN = 20.0
"""How far below the lowest real score a masked one is put. A softmax gives it e^-20 = 2e-9 of what
the smallest real one gets, so that 500 masked tokens take 1e-6 together. With 16 bits it makes the
step of the scores 3e-4 larger. With 8 it would be 0.08, as much as scores have themselves: with 8
bits no score is rounded at all."""

MOVES = frozenset(
    {"Reshape", "Transpose", "Split", "Squeeze", "Unsqueeze", "Identity", "Slice", "Expand"}
    | {"Flatten"}
)
"""Operators that move numbers and do not change them: their outputs keep the grid of the input,
so that a runtime moves integers."""

_WIDE = frozenset({"Pow", "Exp", "Reciprocal", "Sqrt", "ReduceSumSquare", "ReduceL2"})
"""What they give spans too many magnitudes for equal steps: these are insides of norms."""

_ADDS_UP = frozenset({"ReduceSum", "CumSum"})
"""What they give grows with the length of the input: longer inputs than calibration saw would
leave the range. What is computed from it stays in float too; it is a tail of the graph, on a
vector an item."""

_PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})


@dataclass(frozen=True)
class Edge:
    """A tensor that is rounded, the nodes that read it rounded, and the one whose grid it has.

    like: the name of the tensor in front of operators that only move it, or its own.
    """

    value: ir.Value
    readers: tuple[ir.Node, ...]
    like: str
    output: bool = False

    @property
    def name(self) -> str:
        """The tensor's name."""
        return str(self.value.name)


def of_products(groups: Sequence[tuple[ir.Value, Sequence[ir.Node]]]) -> list[Edge]:
    """The edges into matrix products: each tensor with the products that read it."""
    return [Edge(x, tuple(readers), str(x.name)) for x, readers in groups]


def all_edges(model: ir.Model, masks: Masks, kept: Collection[str], bits: int) -> list[Edge]:
    """All float tensors between operators that are worth rounding, in graph order.

    Left out are, for the reasons given above: what depends on masks and lengths alone, unless it
    is added to scores; tails behind sums over tokens; insides of norms; and what only nodes in
    `kept` read or make. With 8 bits only products read rounded activations, those of two
    activations and convolutions too: residual sums and norms have outliers that no smoothing
    reaches (MiniLM's pooled cosine is 0.75 with them, 0.997 without).
    """
    tail = _tail(model, masks)
    into_products = _into_products(model)
    given = {id(v) for v in model.graph.outputs}
    found: dict[int, Edge] = {}
    for value in _floats(model):
        name, producer = str(value.name), value.producer()
        if id(producer) in tail or (producer is not None and not _rounds(producer, kept)):
            continue
        readers = [n for n in value.consumers() if id(n) not in tail and name_of(n) not in kept]
        if name in masks.arithmetic:
            readers = [n for n in readers if not _is_arithmetic(n, masks)]
            if name not in masks.sentinels:
                continue
        output = id(value) in given and bits != 8
        if bits == 8:
            readers = [n for n in readers if id(n) in into_products]
        if not readers and not output:
            continue
        moved = producer is not None and producer.op_type in MOVES and producer.inputs[0]
        source = found.get(id(producer.inputs[0])) if moved and producer else None
        like = source.like if source else name
        found[id(value)] = Edge(value, tuple(dict.fromkeys(readers)), like, output)
    return list(found.values())


def _floats(model: ir.Model) -> list[ir.Value]:
    values = [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]
    return [v for v in values if v.dtype == ir.DataType.FLOAT]


def _rounds(node: ir.Node, kept: Collection[str]) -> bool:
    """Whether what a node gives may be rounded."""
    if name_of(node) in kept or node.op_type in _WIDE:
        return False
    # Weights, and rows of an int8 table: these become float in a Cast, a Gather of steps and a
    # Mul, of which only the last gives an activation.
    table = node.inputs[0] if node.op_type == "Gather" else None
    steps = table is not None and table.const_value is not None and table.const_value.shape[-1] == 1
    made = ("DequantizeLinear", "Cast", "Constant", "ConstantOfShape", "Range")
    return not steps and node.op_type not in made


def _into_products(model: ir.Model) -> set[int]:
    """The products of a graph, and the operators that only move what they read."""
    found: set[int] = set()
    for node in reversed(list(model.graph)):
        users = [user for v in node.outputs for user in v.consumers()]
        moves = node.op_type in MOVES and bool(users) and all(id(u) in found for u in users)
        if node.op_type in _PRODUCTS or moves:
            found.add(id(node))
    return found


def _is_arithmetic(node: ir.Node, masks: Masks) -> bool:
    return all(str(v.name) in masks.arithmetic for v in node.outputs)


def _tail(model: ir.Model, masks: Masks) -> set[int]:
    """The nodes that add up over tokens, and all behind them."""
    tail: set[int] = set()
    for node in model.graph:
        inputs = [v for v in node.inputs if v is not None]
        made = node.outputs[0]  # positions may be counted, but those are integers
        sums = node.op_type in _ADDS_UP and made.dtype == ir.DataType.FLOAT
        # A product with a mask is a sum over the tokens that count.
        sums |= node.op_type == "MatMul" and any(str(v.name) in masks.arithmetic for v in inputs)
        if sums or any(id(v.producer()) in tail for v in inputs if v.producer() is not None):
            tail.add(id(node))
    return tail


def with_masks(
    chosen: Mapping[str, Range], seen: Mapping[str, Histogram], masks: Masks
) -> dict[str, Range]:
    """The ranges with room for masked scores: they end MARGIN below the lowest real score.

    A mask that is added has to push the highest score below that, and so does a bias that a mask
    was added to.
    """
    ranges = dict(chosen)
    spans = {name: max(0.0, values.high - values.low) for name, values in seen.items()}
    scores = [name for name in masks.sentinels & masks.scores if name in ranges]
    biases = (masks.sentinels - masks.scores - masks.arithmetic) & set(ranges)
    reach = 2 * MARGIN + sum(
        max((spans[name] for name in group), default=0.0) for group in (scores, biases)
    )
    for name in scores:
        low, high = min(ranges[name].low, seen[name].low), ranges[name].high
        ranges[name] = Range.holding(low - MARGIN, high)
    for name in biases:
        ranges[name] = Range.holding(ranges[name].low - reach, ranges[name].high)
    for name in masks.sentinels & masks.arithmetic & set(ranges):
        ranges[name] = Range.holding(-reach, reach)
    return ranges
