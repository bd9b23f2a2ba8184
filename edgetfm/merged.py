"""A decoder's first step and its later ones in one graph, by If(use_cache_branch), and apart.

Traced, the keys and values of cross-attention are computed from encoder_hidden_states at every
step. `merge` makes that a branch: the first step computes and gives them, later ones read them
from the past, and what they are made of is not touched. Everything else, the self-attention and
its cache too, stays in the main graph. `unmerge` is the inverse: what rounds weights and looks at
activations sees one plain graph, and is told of no branches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgetfm.signature import PAST, PRESENT, USE_CACHE

_CROSS = re.compile(rf"^{re.escape(PRESENT)}(\d+)\.encoder\.(key|value)$")


@dataclass(frozen=True)
class _Kept:
    """What cross-attention keeps of a source: what is made, and the input that holds it later."""

    present: ir.Value
    past: ir.Value


def merge(model: ir.Model) -> tuple[ir.Model, bool]:
    """Compute cross-attention's keys and values in the first step only.

    One If makes them all and gives nothing later; one for each attention reads what was made or
    what is past: no runtime copies a tensor that a branch reads, as it would one that it returns.
    A graph without the input USE_CACHE, or that has its branches, is left as it is.
    """
    graph = model.graph
    condition = _condition(graph)
    kept = [] if condition is None or any(_branches(graph)) else list(_kept(graph))
    if condition is None or not kept:
        return model, False
    makers = _makers(kept)
    attentions = [_between(pair) for pair in _by_layer(kept)]
    for pair, nodes in zip(_by_layer(kept), attentions, strict=True):
        _choose_past(graph, condition, pair, nodes)
    _make_once(graph, condition, kept, makers)
    graph.sort()
    return model, True


def unmerge(model: ir.Model) -> tuple[ir.Model, bool]:
    """Take what the first step does out of its branches; the past of the source is not read."""
    graph = model.graph
    found = list(_branches(graph))
    for node in found:
        branch = node.attributes["else_branch"].as_graph()
        inner, results = list(branch), list(branch.outputs)
        branch.outputs.clear()
        branch.remove(inner)
        graph.insert_before(node, inner)
        for outer, result in zip(list(node.outputs), results, strict=True):
            name, was_output = outer.name, outer.is_graph_output()
            outer.replace_all_uses_with(result, replace_graph_outputs=was_output)
            if was_output:
                result.shape, result.type = outer.shape, outer.type
            outer.name = None
            result.name = name
        graph.remove(node, safe=True)
    if found:
        graph.sort()
    return model, bool(found)


def _condition(graph: ir.Graph) -> ir.Value | None:
    return next((v for v in graph.inputs if v.name == USE_CACHE), None)


def _branches(graph: ir.Graph) -> Iterator[ir.Node]:
    """The branches that `merge` made."""
    condition = _condition(graph)
    if condition is not None:
        yield from (n for n in graph if n.op_type == "If" and n.inputs[0] is condition)


def _kept(graph: ir.Graph) -> Iterator[_Kept]:
    inputs = {str(v.name): v for v in graph.inputs}
    for present in graph.outputs:
        past = inputs.get(str(present.name).replace(PRESENT, PAST, 1))
        if not _CROSS.match(str(present.name)) or past is None:
            continue
        _read_as_given(present)
        if present.producer() is not None:
            yield _Kept(present, past)


def _read_as_given(present: ir.Value) -> None:
    """Where weights are in half precision attention is not: it reads the cast that is handed on."""
    cast = present.producer()
    half = None if cast is None or cast.op_type != "Cast" else cast.inputs[0]
    for user in () if half is None else list(half.consumers()):
        if user is not cast and user.op_type == "Cast" and user.outputs[0].dtype == present.dtype:
            user.outputs[0].replace_all_uses_with(present)
            assert user.graph is not None
            user.graph.remove(user, safe=True)


def _by_layer(kept: Iterable[_Kept]) -> list[list[_Kept]]:
    layers: dict[str, list[_Kept]] = {}
    for one in kept:
        match = _CROSS.match(str(one.present.name))
        assert match is not None
        layers.setdefault(match[1], []).append(one)
    return list(layers.values())


def _makers(kept: Iterable[_Kept]) -> set[ir.Node]:
    """The nodes that serve nothing but what is kept."""
    ends = {id(one.present) for one in kept}
    nodes: set[ir.Node] = set()
    waiting = [n for one in kept if (n := one.present.producer())]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes.add(node)
            waiting += [p for v in node.inputs if v is not None and (p := v.producer())]
    while True:
        shared = {n for n in nodes if any(_is_read_outside(v, nodes, ends) for v in n.outputs)}
        if not shared:
            return nodes
        nodes -= shared


def _is_read_outside(value: ir.Value, nodes: set[ir.Node], ends: set[int]) -> bool:
    if id(value) in ends:
        return False
    return value.is_graph_output() or any(user not in nodes for user in value.consumers())


def _between(pair: Iterable[_Kept]) -> list[ir.Node]:
    """The nodes of one attention in graph order: those that read a layer's keys or its values, and
    those on the way from one to the other."""
    readers = {n for one in pair for n in one.present.consumers()}
    ahead, behind = _reach(readers, forward=True), _reach(readers, forward=False)
    inside = (ahead & behind) | readers
    graph = next(iter(readers)).graph
    assert graph is not None
    return [node for node in graph if node in inside]


def _reach(nodes: Iterable[ir.Node], *, forward: bool) -> set[ir.Node]:
    """All that comes of some nodes, or that they come of."""
    found: set[ir.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if forward:
            following = [user for v in node.outputs for user in v.consumers()]
        else:
            following = [p for v in node.inputs if v is not None and (p := v.producer())]
        new = [n for n in following if n not in found]
        found.update(new)
        waiting += new
    return found


def _choose_past(
    graph: ir.Graph, condition: ir.Value, pair: list[_Kept], nodes: list[ir.Node]
) -> None:
    """One attention in two branches: over what was just made, and over what is past."""
    inside = set(nodes)
    results = [
        v
        for n in nodes
        for v in n.outputs
        if v.is_graph_output() or any(user not in inside for user in v.consumers())
    ]
    name = nodes[-1].name
    later, replaced = _copied(nodes, pair)
    chosen = [ir.Value(name=v.name, shape=v.shape, type=v.type) for v in results]
    branch = ir.Node("", "If", [condition], outputs=chosen, name=f"{name}/If")
    graph.insert_before(nodes[0], branch)
    for old, new in zip(results, chosen, strict=True):
        _replace_outside(graph, old, new, inside)
        old.name = f"{old.name}/first"
    graph.remove(nodes)
    past = [replaced[id(v)] for v in results]
    branch.attributes["then_branch"] = ir.AttrGraph("then_branch", _graph(past, later, "later"))
    branch.attributes["else_branch"] = ir.AttrGraph("else_branch", _graph(results, nodes, "first"))


def _copied(nodes: list[ir.Node], pair: list[_Kept]) -> tuple[list[ir.Node], dict[int, ir.Value]]:
    """The nodes again, reading the past instead of what was made, and which value became which."""
    made: list[ir.Node] = []
    new = {id(one.present): one.past for one in pair}
    for node in nodes:
        copy = ir.Node(
            node.domain,
            node.op_type,
            [v if v is None else new.get(id(v), v) for v in node.inputs],
            list(node.attributes.values()),
            num_outputs=len(node.outputs),
            name=f"{node.name}/later",
        )
        for old, fresh in zip(node.outputs, copy.outputs, strict=True):
            fresh.name, fresh.type, fresh.shape = f"{old.name}/later", old.type, old.shape
            new[id(old)] = fresh
        made.append(copy)
    return made, new


def _make_once(
    graph: ir.Graph, condition: ir.Value, kept: list[_Kept], makers: set[ir.Node]
) -> None:
    """The keys and values of all layers: made in the first step, nothing in later ones."""
    values = [one.present for one in kept]
    chosen = {id(v): ir.Value(name=v.name, shape=v.shape, type=v.type) for v in values}
    order = [node for node in graph if node in makers]
    branch = ir.Node("", "If", [condition], outputs=list(chosen.values()), name=f"{USE_CACHE}/If")
    graph.insert_before(order[0], branch)
    nothing = [_nothing(one.present, one.past.shape) for one in kept]
    for value in values:
        _replace_outside(graph, value, chosen[id(value)], makers)
        value.name = f"{value.name}/first"
    graph.remove(order)
    branch.attributes["then_branch"] = ir.AttrGraph(
        "then_branch", _graph([n.outputs[0] for n in nothing], nothing, "later")
    )
    branch.attributes["else_branch"] = ir.AttrGraph("else_branch", _graph(values, order, "first"))


def _replace_outside(graph: ir.Graph, old: ir.Value, new: ir.Value, inside: set[ir.Node]) -> None:
    for user, place in list(old.uses()):
        if user not in inside:
            user.replace_input_with(place, new)
    for place, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[place] = new


def _nothing(value: ir.Value, shape: ir.Shape | None) -> ir.Node:
    """A tensor without elements of a value's type; its axes as Optimum has them."""
    assert shape is not None
    assert value.dtype is not None
    _, heads, _, size = shape
    empty = np.zeros((0, int(str(heads)), 1, int(str(size))), value.dtype.numpy())
    node = ir.Node("", "Constant", [], [ir.AttrTensor("value", ir.tensor(empty))])
    node.name = f"{value.name}/nothing"
    node.outputs[0].name = node.name
    node.outputs[0].type = value.type
    return node


def _graph(outputs: list[ir.Value], nodes: list[ir.Node], name: str) -> ir.Graph:
    return ir.Graph([], outputs, nodes=nodes, name=name)
