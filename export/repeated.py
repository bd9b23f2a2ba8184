"""A graph of many equal layers, grown from that of a few: tracing takes no longer for a deep model.

Tracing and its passes cost half a second a layer, and say the same of each. So three layers are
traced, of which the middle one is repeated under the names of the others. That is done only where
nothing but the number in their names tells layers apart, and the graph is then the one that tracing
all of them gives, up to the names of its constants.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import onnx_ir as ir
from torch import nn

from edgetfm.signature import PAST, PRESENT

FEW = 3
"""Layers that are traced: the first, the one that is repeated, and the last."""

LAYERS = "layers"
"""The list of layers of a decoder, and the beginning of their nodes' names."""

_PLACE = re.compile(rf"({LAYERS}\.|{re.escape(PAST)}|{re.escape(PRESENT)})(\d+)(?=[./])")
_OWN = re.compile(rf"{LAYERS}\.(\d+)[./]")


def are_equal(layers: Sequence[nn.Module]) -> bool:
    """Whether layers differ in nothing but the values of their weights."""
    first, *others = (list(_looks(layer)) for layer in layers)
    return all(other == first for other in others)


def _looks(layer: nn.Module) -> Iterator[tuple[Any, ...]]:
    """What a layer is made of: classes, settings, and the shapes of weights, by their names."""
    for name, part in layer.named_modules():
        tensors = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        settings = {k: repr(v) for k, v in vars(part).items() if not k.startswith("_")}
        yield name, type(part), settings, [(n, t.shape, t.dtype) for n, t in tensors]


def grow(model: ir.Model, depth: int) -> bool:
    """Make a model of FEW equal layers one of `depth`, without the values of the new weights.

    Nor has the last layer values any more: it had those of the third. False, and nothing is
    changed, if its layers are not told apart by a number alone. What is given and taken is in no
    order.
    """
    graph = model.graph
    if depth < FEW or not _is_regular(graph):
        return False
    values = _values(graph)
    last, repeated = _nodes_of(graph, FEW - 1), _nodes_of(graph, 1)
    far = depth - FEW
    for value in [v for v in values.values() if _PLACE.match(str(v.name))]:
        if _number(str(value.name)) == FEW - 1:
            value.name = moved(str(value.name), far)
            value.const_value = None
    for node in last:
        node.name = moved(str(node.name), far)
    values = _values(graph)
    for by in range(1, depth - FEW + 1):
        for node in repeated:
            graph.insert_before(last[0], _copy(graph, node, by, values))
    for node in last:  # it read the repeated layer, and now reads the last copy of that
        for place, read in enumerate(node.inputs):
            if read is not None and _number(str(read.name)) == 1:
                node.replace_input_with(place, values[moved(str(read.name), far)])
    return True


def moved(name: str, by: int) -> str:
    """The name of the same thing so many layers further on."""
    found = _PLACE.match(name)
    return name if found is None else f"{found[1]}{int(found[2]) + by}{name[found.end() :]}"


def _number(name: str) -> int | None:
    """The layer that a value's name belongs to."""
    found = _PLACE.match(name)
    return None if found is None else int(found[2])


def _nodes_of(graph: ir.Graph, layer: int) -> list[ir.Node]:
    found = ((node, _OWN.match(str(node.name))) for node in graph)
    return [node for node, own in found if own is not None and int(own[1]) == layer]


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    """Everything that a node can read, by name."""
    made = (value for node in graph for value in node.outputs)
    every = (*graph.inputs, *graph.initializers.values(), *made)
    return {str(value.name): value for value in every}


def _is_regular(graph: ir.Graph) -> bool:
    """Whether the last layer is the middle one with all its numbers one higher, and alone reads it.

    Each of them is one run of nodes. What all layers share has no layer's name; a constant that
    each has of its own would have none either, and then the two differ.
    """
    nodes = list(graph)
    runs = [_nodes_of(graph, layer) for layer in range(FEW)]
    if not all(runs) or _nodes_of(graph, FEW):
        return False
    start = nodes.index(runs[0][0])
    if nodes[start : start + sum(map(len, runs))] != [node for run in runs for node in run]:
        return False
    if any(a.type == ir.AttributeType.GRAPH for node in nodes for a in node.attributes.values()):
        return False
    inside = set(runs[1]) | set(runs[2])
    outside = (value for node in nodes if node not in inside for value in node.inputs)
    if any(value is not None and _number(str(value.name)) == 1 for value in outside):
        return False
    return [_text(node, 1) for node in runs[1]] == [_text(node, 0) for node in runs[2]]


def _text(node: ir.Node, by: int) -> tuple[Any, ...]:
    """A node by its names, those of layers so many further on."""
    read = [None if v is None else moved(str(v.name), by) for v in node.inputs]
    made = [moved(str(v.name), by) for v in node.outputs]
    settings = {name: str(a.value) for name, a in node.attributes.items()}
    return moved(str(node.name), by), node.domain, node.op_type, read, made, settings


def _copy(graph: ir.Graph, node: ir.Node, by: int, values: dict[str, ir.Value]) -> ir.Node:
    """A node of the repeated layer for one so many further on; `values` gets what it adds."""
    read = [None if v is None else _of_layer(graph, v, by, values) for v in node.inputs]
    new = ir.Node(
        node.domain,
        node.op_type,
        read,
        list(node.attributes.values()),
        num_outputs=len(node.outputs),
        name=moved(str(node.name), by),
    )
    for old, value in zip(node.outputs, new.outputs, strict=True):
        value.name, value.type, value.shape = moved(str(old.name), by), old.type, old.shape
        values[value.name] = value
        if old.is_graph_output():
            graph.outputs.append(value)
    return new


def _of_layer(graph: ir.Graph, value: ir.Value, by: int, values: dict[str, ir.Value]) -> ir.Value:
    """What stands in the place of a value so many layers on; weights and caches are made."""
    name = moved(str(value.name), by)
    if name not in values:
        new = ir.Value(name=name, type=value.type, shape=value.shape)
        if value.is_graph_input():
            graph.inputs.append(new)
        else:
            graph.initializers.add(new)
        values[name] = new
    return values[name]
