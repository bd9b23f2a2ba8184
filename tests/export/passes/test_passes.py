"""Each graph edit: what it changes, what it leaves alone, and that answers stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from edgetfm.export.passes import (
    constant_reshape,
    deduplicate,
    lowest_opset,
    names,
    simplify,
    split_sizes,
    strip,
)
from edgetfm.signature import Array


def model(text: str, **constants: Array) -> ir.Model:
    """A graph in onnx's textual form, with initializers."""
    made = ir.from_onnx_text(f'<ir_version: 8, opset_import: ["": 18]> {text}')
    for name, array in constants.items():
        for node in made.graph:
            for place, value in enumerate(node.inputs):
                if value is not None and value.name == name:
                    if name not in made.graph.initializers:
                        value.const_value = ir.tensor(array, name=name)
                        made.graph.initializers.add(value)
                    node.replace_input_with(place, made.graph.initializers[name])
    return made


def run(graph: ir.Model, **feeds: Array) -> Array:
    evaluator = ReferenceEvaluator(ir.to_proto(graph))
    outputs: Any = evaluator.run(None, feeds)
    return np.asarray(outputs[0])


def ops(graph: ir.Model) -> list[str]:
    return [n.op_type for n in graph.graph]


# --- constant_reshape ---------------------------------------------------------------------------


def reshape_by_arithmetic(heads: int, width: int) -> ir.Model:
    graph = model(
        f"""g (float[batch, sequence, {heads * width}] x)
        => (float[batch, sequence, {heads}, {width}] y) {{
            s = Shape <start = 0, end = 2> (x)
            t = Concat <axis = 0> (s, tail)
            y = Reshape <allowzero = 1> (x, t)
        }}""",
        tail=np.array([heads, width]),
    )
    return graph


@settings(deadline=None, max_examples=30)
@given(*(st.integers(1, 5) for _ in range(4)))
def test_a_reshape_becomes_constant_and_answers_the_same(
    batch: int, sequence: int, heads: int, width: int
) -> None:
    x = np.random.default_rng(0).normal(size=(batch, sequence, heads * width)).astype("f4")
    wanted = run(reshape_by_arithmetic(heads, width), x=x)
    graph, changed = constant_reshape.run(reshape_by_arithmetic(heads, width))
    assert changed
    assert ops(graph) == ["Reshape"]
    shape = graph.graph.node(0).inputs[1]
    assert shape is not None
    assert shape.const_value is not None
    assert shape.const_value.numpy().tolist() == [0, 0, heads, width]
    assert np.array_equal(run(graph, x=x), wanted)
    assert not constant_reshape.run(graph)[1]


def test_a_free_axis_that_moved_is_minus_one_and_two_are_left_alone() -> None:
    moved = model(
        """g (float[batch, sequence] x, int64[4] t) => (float[batch, 1, 1, sequence] y) {
            y = Reshape (x, t)
        }"""
    )
    graph, changed = constant_reshape.run(moved)
    assert changed
    assert graph.graph.initializers["shape_0_1_1_m1"].const_value is not None
    both = model(
        """g (float[n] x, int64[3] t) => (float[batch, 1, sequence] y) { y = Reshape (x, t) }"""
    )
    assert not constant_reshape.run(both)[1]


def test_a_constant_shape_with_a_zero_keeps_its_meaning() -> None:
    graph = model(
        "g (float[a, b] x) => (float[c, d] y) { y = Reshape <allowzero = 1> (x, s) }",
        s=np.array([0, 3]),
    )
    assert not constant_reshape.run(graph)[1]
    assert "allowzero" in graph.graph.node(0).attributes


# --- split_sizes --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(parts=st.integers(1, 4), width=st.integers(1, 4), axis=st.sampled_from([-1, 1]))
def test_split_gets_the_sizes_it_had(parts: int, width: int, axis: int) -> None:
    outputs = ", ".join(f"y{i}" for i in range(parts))
    infos = ", ".join(f"float[n, {width}] y{i}" for i in range(parts))
    text = f"""g (float[n, {parts * width}] x) => ({infos}) {{
        {outputs} = Split <axis = {axis}, num_outputs = {parts}> (x)
    }}"""
    x = np.arange(2 * parts * width, dtype="f4").reshape(2, -1)
    wanted = run(model(text), x=x)
    graph, changed = split_sizes.run(model(text))
    assert changed
    assert np.array_equal(run(graph, x=x), wanted)
    assert lowest_opset.run(graph)[0].graph.opset_imports[""] == 17
    assert np.array_equal(run(graph, x=x), wanted)


def test_a_split_of_unknown_sizes_is_left_alone() -> None:
    graph = model("g (float[n] x) => (float[a] y, float[b] z) {y, z = Split <num_outputs=2> (x)}")
    assert not split_sizes.run(graph)[1]
    assert lowest_opset.run(graph)[0].graph.opset_imports[""] == 18


# --- deduplicate --------------------------------------------------------------------------------


def test_equal_constants_become_one_and_different_ones_stay() -> None:
    one = np.ones((2, 2), np.float32)
    text = """g (float[2, 2] x) => (float[2, 2] y) {
        p = Add (x, a)
        q = Mul (p, b)
        r = Add (q, c)
        s = Add (r, d)
        y = Reshape (s, e)
    }"""
    constants = {"a": one, "b": one.copy(), "c": one * 2, "d": one.T.copy(), "e": np.array([2, 2])}
    x = np.arange(4, dtype="f4").reshape(2, 2)
    wanted = run(model(text, **constants), x=x)
    graph, changed = deduplicate.run(model(text, **constants))
    assert changed
    assert list(graph.graph.initializers) == ["a", "c", "e"]
    assert np.array_equal(run(graph, x=x), wanted)
    assert not deduplicate.run(graph)[1]


def test_the_same_bytes_in_another_type_or_shape_are_another_constant() -> None:
    graph = model(
        "g (float[2] x, int32[2] z) => (float[2] y, int32[2] w) { y = Add (x, a) w = Add (z, b) }",
        a=np.zeros(2, np.float32),
        b=np.zeros(2, np.int32),
    )
    assert not deduplicate.run(graph)[1]
    assert len(graph.graph.initializers) == 2


# --- the others ---------------------------------------------------------------------------------


def test_simplify_folds_shapes_and_leaves_weights() -> None:
    weight = np.ones((64, 64), np.float32)
    graph = model(
        """g (float[n, 64] x) => (float[n, 64] y) {
            w2 = Transpose <perm = [1, 0]> (w)
            i = Identity (x)
            y = MatMul (i, w2)
        }""",
        w=weight,
    )
    simplified, changed = simplify.run(graph)
    assert changed
    assert ops(simplified) == ["Transpose", "MatMul"]


def test_nodes_are_named_by_their_module_and_never_twice() -> None:
    graph = model(
        """g (float[n] x) => (float[n] y) {
            a = Relu (x)
            b = Relu (a)
            y = Neg (b)
        }"""
    )
    first, second, _ = graph.graph
    for node in (first, second):
        node.metadata_props["namespace"] = ": m.Net/layers.0: m.Layer/relu: aten.relu.default"
    named, _ = names.run(graph)
    assert [n.name for n in named.graph] == ["layers.0/Relu", "layers.0/Relu_2", "layers.0/Neg"]
    assert [v.name for v in (*named.graph.inputs, *named.graph.outputs)] == ["x", "y"]


def test_a_node_of_torchs_own_passes_belongs_where_its_input_comes_from() -> None:
    graph = model("g (float[n] x) => (float[n] y) { a = Relu (x) b = Shape (a) y = Expand (a, b) }")
    first, second, _ = graph.graph
    first.metadata_props["namespace"] = ": m.Net/norm: m.Norm/relu: aten.relu.default"
    hook = "_empty_nn_module_stack_from_metadata_hook"
    second.metadata_props["namespace"] = f": {hook}/{hook}: {hook}/sym_size: aten.sym_size.int"
    named, _ = names.run(graph)
    assert [n.name for n in named.graph] == ["norm/Relu", "norm/Shape", "norm/Expand"]


def test_strip_leaves_nothing_of_the_exporter() -> None:
    graph = model("g (float[n] x) => (float[n] y) { a = Relu (x) y = Neg (a) }")
    node = graph.graph.node(0)
    node.metadata_props["pkg.torch.onnx.stack_trace"] = "File here.py"
    node.doc_string = "here"
    node.outputs[0].shape = ir.Shape(["Min(4, n)", 3, "n"])
    graph.producer_name, graph.producer_version = "pytorch", "2.13.0"
    stripped, _ = strip.run(graph)
    text = str(ir.to_proto(stripped))
    assert not any(word in text for word in ("here", "pytorch", "2.13.0", "Min"))
    shape = stripped.graph.node(0).outputs[0].shape
    assert shape is not None
    assert [a if isinstance(a, int) else a.value for a in shape] == [None, 3, "n"]


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        ("y = Relu (x)", 17),
        ("y = ReduceMax (x, a)", 18),
    ],
)
def test_the_opset_is_the_lowest_that_means_the_same(text: str, opset: int) -> None:
    body = f"g (float[n] x, int64[1] a) => (float[m] y) {{ {text} }}"
    graph, changed = lowest_opset.run(model(body))
    assert graph.graph.opset_imports[""] == opset
    assert graph.ir_version == 8
    assert changed == (opset != 18)
