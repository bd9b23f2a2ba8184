"""The static pass: weights and activations on grids that are fixed before the graph runs.

    x -> QuantizeLinear -> DequantizeLinear -> MatMul(DequantizeLinear(int8 weight)) -> Add

Standard operators only: a runtime that knows no integer kernels runs it in float with the same
rounding, others fuse each operator with the pairs around it. First the weights are replaced, then
the activations of that very graph are observed, then they are rounded to the ranges found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from edgetfm.progress import Progress
from edgetfm.quantize import edges, embeddings, gelu, opset
from edgetfm.quantize.edges import Edge
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.linear import Linear, by_activation
from edgetfm.quantize.masks import find_masks
from edgetfm.quantize.plan import Int8Weight, Plan
from edgetfm.quantize.qdq import (
    LEVELS,
    Grid,
    dequantized_weight,
    grid,
    round_convolution,
    round_trip,
    rounded_constant,
)
from edgetfm.quantize.ranges import Range, observe_values, ranges_of
from edgetfm.signature import Feeds


def run(
    model: ir.Model, plan: Plan, feeds: Sequence[Feeds], progress: Progress
) -> tuple[ir.Model, dict[str, Any]]:
    """Put what `plan` decided into `model`, which it changes, and fix its activations' ranges.

    The facts say how many activations are rounded, by which ranges, and which masks are clamped.
    Raises DataError if an item makes NaN in an activation.
    """
    recipe = plan.recipe
    bits = recipe.activation_bits
    plan.fold()
    embeddings.run(model, plan.embeddings, plan.tables, plan.unsigned)
    products = _weights(model, plan)
    if bits == 16:
        opset.run(model)
        gelu.run(model)
    masks = find_masks(model)
    chosen = (
        edges.all_edges(model, masks, recipe.keep_float, bits)
        if recipe.scope == "all"
        else edges.of_products(products)
    )
    observed = [edge.name for edge in chosen if edge.like == edge.name]
    seen = observe_values(model, observed, feeds, masked=masks.sentinels, progress=progress)
    ranges = edges.with_masks(ranges_of(seen, recipe.ranges, LEVELS[bits]), seen, masks)
    round_activations(model, chosen, ranges, bits)
    if recipe.scope == "all":
        _round_constants(model, bits)
        plan.facts.take_rounded(_is_rounded)
    return model, {
        "activations_rounded": len(chosen),
        "activation_bits": bits,
        "ranges": recipe.ranges,
        "masks_clamped": sorted(masks.sentinels & {edge.name for edge in chosen}),
    }


def round_activations(
    model: ir.Model, chosen: Sequence[Edge], ranges: Mapping[str, Range], bits: int
) -> None:
    """Round each edge to its range, on unsigned grids of that many bits; changes `model`."""
    editor = Editor(model)
    grids: dict[str, Grid] = {}
    for edge in chosen:
        if edge.like not in grids:
            grids[edge.like] = grid(editor, edge.like, ranges[edge.like], bits)
    for edge in chosen:
        round_trip(editor, edge.value, grids[edge.like], edge.readers, output=edge.output)


def _weights(model: ir.Model, plan: Plan) -> list[tuple[ir.Value, list[ir.Node]]]:
    """Replace every planned product by one on a dequantized weight; each activation's readers."""
    editor = Editor(model)
    made: list[tuple[ir.Value, list[ir.Node]]] = []
    for x, group in by_activation(plan.linears):
        source, name = x, str(x.name)
        if name in plan.divisors:
            inverse = editor.constant(f"{name}_smoothing", 1 / plan.divisors[name])
            inputs = [x, inverse]
            source = editor.before(group[0].node, "Mul", inputs, f"{name}_smoothed")[0]
            source.type, source.shape = x.type, x.shape
        readers = [_replace(editor, li, source, plan.weights[li.name]) for li in group]
        made.append((source, readers))
    editor.finish()
    return made


def _replace(editor: Editor, linear: Linear, x: ir.Value, new: Int8Weight) -> ir.Node:
    """A MatMul on the dequantized weight, and an Add, in place of the layer; the MatMul."""
    node, stem = linear.node, str(linear.weight.name)
    stored: Any = new.weight.values
    if new.table is not None:
        table = editor.graph.initializers[embeddings.stored_name(new.table)]
        stored = editor.before(node, "Transpose", [table], f"{linear.name}_weight", perm=[1, 0])[0]
    weight = dequantized_weight(editor, node, stem, stored, new.weight.scale, axis=1)
    y = editor.before(node, "MatMul", [x, weight], f"{linear.name}_product")[0]
    y.type, y.shape = node.outputs[0].type, node.outputs[0].shape
    product = y.producer()
    assert product is not None
    if linear.bias is not None:
        bias = linear.bias
        if new.bias is not None:
            bias = editor.constant(f"{linear.bias.name}_folded", new.bias)
        y = editor.before(node, "Add", [y, bias], f"{linear.name}_biased")[0]
    editor.replace(linear.add or node, y)
    return product


_WITH_CONSTANTS = frozenset({"Add", "Sub", "Mul", "Div", "LayerNormalization", "Concat"})
"""Operators whose constants are rounded too: integer kernels want all inputs on grids."""


def _round_constants(model: ir.Model, bits: int) -> None:
    """Round the float constants of operators between rounded activations; changes `model`."""
    editor = Editor(model)
    made: dict[str, ir.Value] = {}
    for node in list(model.graph):
        if node.op_type == "Conv" and node.domain == "":
            round_convolution(editor, node)
        if node.op_type not in _WITH_CONSTANTS or not _between_pairs(node):
            continue
        for place, value in enumerate(node.inputs):
            tensor = None if value is None else value.const_value
            if value is None or tensor is None or tensor.dtype != ir.DataType.FLOAT:
                continue
            name = str(value.name)
            if name not in made:
                made[name] = rounded_constant(editor, node, value, bits)
            node.replace_input_with(place, made[name])
    editor.finish()


def _between_pairs(node: ir.Node) -> bool:
    """Whether all activations that a node reads are rounded, and all that it gives."""
    users = [user for v in node.outputs for user in v.consumers()]
    rounds = bool(users) and all(user.op_type == "QuantizeLinear" for user in users)
    return rounds and _reads_rounded(node)


def _is_rounded(node: ir.Node) -> bool:
    """Whether a product is one of integers: of rounded activations, and of no float constant."""
    factors = [v for v in node.inputs[:2] if v is not None]
    return _reads_rounded(node) and all(v.const_value is None for v in factors)


def _reads_rounded(node: ir.Node) -> bool:
    """Whether a node reads activations, and all of them are rounded."""
    read = [v.producer() for v in node.inputs if v is not None and v.const_value is None]
    return bool(read) and all(p is not None and p.op_type == "DequantizeLinear" for p in read)
