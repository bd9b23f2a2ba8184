"""A graph grown from three layers is the graph of all of them, or nothing is grown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgetfm.export.repeated import FEW, are_equal, grow, moved
from edgetfm.export.streamed import _fill, to_onnx_streamed
from edgetfm.models._family import Family, Stage
from edgetfm.models._lazy import LazyWeight
from edgetfm.models.gpt import FAMILY as GPT
from edgetfm.models.llama import FAMILY as LLAMA
from edgetfm.progress import Progress
from edgetfm.search.float_graph import _shallow
from edgetfm.sources import open_source
from edgetfm.sources._weights import empty

DEPTH = 5


def about(value: ir.Value | None) -> tuple[Any, ...] | None:
    """A value by its name, a small constant by its content."""
    if value is None:
        return None
    tensor = value.const_value
    if tensor is not None and not isinstance(tensor, ir.LazyTensor):
        return tensor.tobytes(), str(tensor.shape)
    return value.name, str(value.shape), value.dtype


def looks(model: ir.Model) -> Iterator[Any]:
    """Everything that a file of the graph would say, constants by what they are."""
    for node in model.graph:
        settings = {name: str(a.value) for name, a in node.attributes.items()}
        read, made = ([about(v) for v in values] for values in (node.inputs, node.outputs))
        yield node.name, node.domain, node.op_type, read, made, settings
    yield [[about(v) for v in values] for values in (model.graph.inputs, model.graph.outputs)]
    yield model.ir_version, dict(model.graph.opset_imports)
    for name, value in sorted(model.graph.initializers.items()):
        if isinstance(value.const_value, ir.LazyTensor):
            yield name, value.const_value.tobytes()


def listing(steps: list[str]) -> Progress:
    """A progress that lists what is done."""
    return lambda what, done, total: steps.append(what)


@pytest.mark.slow
def test_grown_it_is_the_graph_of_all_layers(
    tiny_decoder: Callable[..., Path], tmp_path: Path
) -> None:
    source = open_source(tiny_decoder("qwen3", tmp_path, num_hidden_layers=DEPTH))
    (stage,) = source.stages
    specs = (make(source.config, source.task) for make in (stage.inputs, stage.outputs))
    inputs, outputs = specs
    graphs, steps = [], list[list[str]]()
    for grown in (True, False):
        skeleton, weights = source.streamed()
        shallow = _shallow(source, stage, skeleton)
        assert shallow is not None
        assert (len(shallow.inputs), shallow.depth) == (len(inputs) - 2 * (DEPTH - FEW), DEPTH)
        given = shallow if grown else None
        steps.append([])
        told = listing(steps[-1])
        graph = to_onnx_streamed(skeleton, weights, inputs, outputs, shallow=given, progress=told)
        graphs.append(graph)
    assert steps[0] == steps[1], "either is traced once"
    assert list(looks(graphs[0])) == list(looks(graphs[1]))


def chain(*names: str) -> ir.Model:
    """A graph of one Relu after the other, so called."""
    value = ir.val("x", ir.DataType.FLOAT, ("n",))
    first, nodes = value, []
    for name in names:
        node = ir.node("Relu", [value], name=name)
        (value,) = node.outputs
        value.name = f"{name}:0"
        nodes.append(node)
    graph = ir.Graph([first], [value], nodes=nodes, opset_imports={"": 17}, name="g")
    return ir.Model(graph, ir_version=8)


def test_only_what_a_number_tells_apart_is_repeated() -> None:
    model = chain("words", "layers.0/Relu", "layers.1/Relu", "layers.2/Relu", "norm")
    assert grow(model, DEPTH)
    names = [f"layers.{i}/Relu" for i in range(DEPTH)]
    assert [node.name for node in model.graph] == ["words", *names, "norm"]
    reads = [str(node.inputs[0].name) for node in model.graph if node.inputs[0] is not None]
    assert reads == ["x", "words:0", *(f"{name}:0" for name in names)]
    for others in (
        ("layers.0/Relu", "layers.1/Relu", "layers.2/Relu_2"),
        ("layers.0/Relu", "layers.1/Relu", "between", "layers.2/Relu"),
        ("layers.0/Relu", "layers.1/Relu"),
        ("layers.0/Relu", "layers.1/Relu", "layers.2/Relu", "layers.3/Relu"),
    ):
        model = chain(*others)
        assert not grow(model, DEPTH)
        assert [node.name for node in model.graph] == list(others)
    model = chain("layers.0/Relu", "layers.1/Relu", "layers.2/Relu", "norm")
    model.graph[3].replace_input_with(0, model.graph[1].outputs[0])  # the middle is read elsewhere
    assert not grow(model, DEPTH)


def cached() -> ir.Model:
    """Three layers, each with a weight and with a cache that it gives back longer."""
    given = [ir.val("x", ir.DataType.FLOAT, ("n",))]
    taken, weights, nodes, value = [], [], [], given[0]
    for i in range(FEW):
        weight = ir.val(f"layers.{i}.weight", const_value=ir.tensor(np.full(1, i, np.float32)))
        past = ir.val(f"past_key_values.{i}.key", ir.DataType.FLOAT, ("n",))
        made = ir.node("Mul", [value, weight], name=f"layers.{i}/Mul")
        longer = ir.node("Concat", [past, made.outputs[0]], {"axis": 0}, name=f"layers.{i}/Concat")
        (value,), (present,) = made.outputs, longer.outputs
        value.name, present.name = f"layers.{i}/Mul:0", f"present.{i}.key"
        weights.append(weight)
        given.append(past)
        taken.append(present)
        nodes += [made, longer]
    opsets = {"": 17}
    graph = ir.Graph(
        given, [value, *taken], nodes=nodes, initializers=weights, opset_imports=opsets, name="g"
    )
    return ir.Model(graph, ir_version=8)


def test_a_layer_added_has_a_cache_of_its_own_and_no_value_of_another() -> None:
    model = cached()
    assert grow(model, DEPTH)
    wanted = [
        part
        for i in range(DEPTH)
        for part in (
            [f"layers.{i - 1}/Mul:0" if i else "x", f"layers.{i}.weight", f"layers.{i}/Mul:0"],
            [f"past_key_values.{i}.key", f"layers.{i}/Mul:0", f"present.{i}.key"],
        )
    ]
    named = [[v.name for v in (*n.inputs, *n.outputs) if v is not None] for n in model.graph]
    assert named == wanted
    caches = {f"past_key_values.{i}.key" for i in range(DEPTH)}
    assert {v.name for v in model.graph.inputs} == {"x", *caches}
    presents = {f"present.{i}.key" for i in range(DEPTH)}
    assert {v.name for v in model.graph.outputs} == {f"layers.{DEPTH - 1}/Mul:0", *presents}
    weights = model.graph.initializers
    assert set(weights) == {f"layers.{i}.weight" for i in range(DEPTH)}
    of_old = {name for name, value in weights.items() if value.const_value is not None}
    assert of_old == {"layers.0.weight", "layers.1.weight"}
    some = {f"layers.{i}.weight": LazyWeight.of(torch.full((1,), 10.0 + i)) for i in range(DEPTH)}
    missing = {name: weight for name, weight in some.items() if name != "layers.3.weight"}
    assert not _fill(model, missing), "layer 3 has no weight of another"
    assert _fill(model, some)
    values = [weights[f"layers.{i}.weight"].const_value for i in range(DEPTH)]
    assert [float(v.numpy()[0]) for v in values if v is not None] == [10, 11, 12, 13, 14]


def skeleton(family: Family, **settings: Any) -> tuple[Any, nn.Module]:
    """What a source of this family would say of a deep model, and that model without weights."""
    sizes = {"vocabulary": 9, "width": 16, "heads": 2, "layers": DEPTH, "inner": 8, "context": 8}
    config = family.config(**(sizes | settings))

    def of_depth(layers: int) -> tuple[nn.Module, Any]:
        fewer = replace(config, layers=layers)
        return empty(lambda: family.build(fewer, "text-generation")).eval(), fewer

    source = SimpleNamespace(of_depth=of_depth, config=config, task="text-generation")
    return source, of_depth(DEPTH)[0]


def test_a_decoder_whose_layers_are_not_all_alike_is_traced_whole() -> None:
    for family, alike, settings in (
        (LLAMA, True, {}),
        (LLAMA, True, {"kinds": "lllll", "window": 3, "rope_local_base": 5.0}),
        (LLAMA, False, {"kinds": "llllg", "window": 3}),
        (LLAMA, False, {"kinds": "lllgg", "window": 3, "rope_local_base": 5.0}),
        (GPT, True, {}),
        (GPT, False, {"scaled_by_layer": True}),
    ):
        kin = {"kv_heads": 1, "head_size": 16} if family is LLAMA else {}
        source, module = skeleton(family, **kin, **settings)
        stage = Stage("model", lambda m: m, family.inputs, family.outputs)
        assert (_shallow(source, stage, module) is not None) == alike, settings


def test_layers_are_equal_if_only_their_weights_differ() -> None:
    assert are_equal([nn.Linear(2, 3) for _ in range(3)])
    assert not are_equal([nn.Linear(2, 3), nn.Linear(2, 4)])
    assert not are_equal([nn.Linear(2, 3), nn.Linear(2, 3, bias=False)])
    assert not are_equal([nn.LayerNorm(2), nn.LayerNorm(2, eps=1e-3)])


def test_only_the_number_of_a_layer_is_moved() -> None:
    assert moved("layers.1.attention/MatMul_1:0", 3) == "layers.4.attention/MatMul_1:0"
    assert moved("past_key_values.2.key", 1) == "past_key_values.3.key"
    for other in ("words.weight", "val_1", "more.layers.1/Add", "split_1_1"):
        assert moved(other, 3) == other
