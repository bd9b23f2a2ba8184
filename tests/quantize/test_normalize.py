"""Graphs made elsewhere: every step leaves the answer, and after all of them the work is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetfm.errors import InputError
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize import normalize as steps
from edgetfm.quantize.linear import find_linears
from edgetfm.quantize.normalize import normalize
from edgetfm.signature import Array, Feeds

Run = Callable[..., Feeds]


def made(
    nodes: list[onnx.NodeProto],
    weights: dict[str, Array],
    *,
    shape: tuple[int | str, ...] = ("batch", "sequence", 8),
    opset: int = 17,
    **options: Any,
) -> ir.Model:
    """A graph from x to y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    held = [numpy_helper.from_array(a, name) for name, a in weights.items()]
    graph = helper.make_graph(nodes, "graph", [x], [y], held)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=9, **options))


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


@pytest.fixture
def weight(rng: np.random.Generator) -> Array:
    return rng.standard_normal((8, 8)).astype(np.float32)


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return rng.standard_normal((2, 5, 8)).astype(np.float32)


def same(run: Run, before: ir.Model, after: ir.Model, x: Array) -> None:
    wanted, got = (run(m, x=x)["y"] for m in (before, after))
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def linear_shapes(model: ir.Model) -> list[tuple[int, int]]:
    return [linear.shape for linear in find_linears(model)[0]]


def test_constants_become_initializers(run: Run, weight: Array, x: Array) -> None:
    value = numpy_helper.from_array(weight)
    nodes = [node("Constant", "", "w", value=value), node("MatMul", "x w", "y")]
    before, after = made(nodes, {}), steps.lift_constants(made(nodes, {}))[0]
    assert [n.op_type for n in after.graph] == ["MatMul"]
    same(run, before, after, x)
    assert linear_shapes(after) == [(8, 8)]


def test_unnamed_and_namesake_nodes_get_names_of_their_own(weight: Array) -> None:
    nodes = [
        node("MatMul", "x w", "a", name="dense"),
        node("MatMul", "a w", "b", name="dense"),
        node("MatMul", "b w", "c"),
        node("MatMul", "c w", "y"),
    ]
    names = []
    for _ in range(2):
        model, _ = steps.name_nodes(made(nodes, {"w": weight}))
        names.append([n.name for n in model.graph])
    assert len(set(names[0])) == 4
    assert names[0][0] == "dense"
    assert names[0] == names[1]


def test_identities_are_passed_over(run: Run, weight: Array, x: Array) -> None:
    nodes = [
        node("Identity", "w", "same"),
        node("MatMul", "x same", "a"),
        node("Identity", "a", "y"),
    ]
    before = made(nodes, {"w": weight})
    after, changed = steps.skip_identities(made(nodes, {"w": weight}))
    assert changed
    assert [n.op_type for n in after.graph] == ["MatMul", "Identity"]  # y keeps its name
    same(run, before, after, x)


@pytest.mark.parametrize(
    "chain",
    [
        [("Cast", {"to": TensorProto.FLOAT})],
        [("Transpose", {"perm": [1, 0]}), ("Cast", {"to": TensorProto.FLOAT})],
        [("Transpose", {"perm": [1, 0]}), ("Reshape", {})],
        [("Unsqueeze", {}), ("Squeeze", {})],
    ],
    ids=lambda c: "-".join(op for op, _ in c),
)
def test_weights_that_are_moved_at_run_time_are_stored_moved(
    chain: list[tuple[str, dict[str, Any]]], run: Run, weight: Array, x: Array
) -> None:
    second = {"Reshape": "shape", "Unsqueeze": "axis", "Squeeze": "axis"}
    nodes, last = [], "w"
    for op, attributes in chain:
        nodes.append(node(op, f"{last} {second.get(op, '')}".strip(), f"{last}_", **attributes))
        last += "_"
    nodes.append(node("MatMul", f"x {last}", "y"))
    held = {"w": weight, "shape": np.array([8, -1]), "axis": np.array([0])}
    before = made(nodes, held)
    after, changed = steps.fold_constants(made(nodes, held))
    assert changed
    assert [n.op_type for n in after.graph] == ["MatMul"]
    same(run, before, after, x)


def test_a_transposed_matrix_stays_for_an_embedding_may_share_it(weight: Array) -> None:
    nodes = [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "x t", "y")]
    model, changed = steps.fold_constants(made(nodes, {"w": weight}))
    assert not changed
    assert linear_shapes(model) == [(8, 8)]


def test_a_batched_weight_of_one_is_a_matrix(run: Run, weight: Array, x: Array) -> None:
    nodes = [node("MatMul", "x w", "y")]
    before = made(nodes, {"w": weight[None]})
    assert linear_shapes(before) == []
    after, _ = steps.flat_weights(made(nodes, {"w": weight[None]}))
    assert linear_shapes(after) == [(8, 8)]
    same(run, before, after, x)


def test_a_batched_weight_that_adds_an_axis_is_left(weight: Array) -> None:
    nodes = [node("MatMul", "x w", "y")]
    flat = made(nodes, {"w": weight[None]}, shape=("batch", 8))  # y would lose its first axis
    _, changed = steps.flat_weights(flat)
    assert not changed


def test_a_constant_on_the_left_is_turned_to_the_right(
    run: Run, rng: np.random.Generator, x: Array
) -> None:
    mix = rng.standard_normal((3, 5)).astype(np.float32)  # over tokens, not channels
    nodes = [node("MatMul", "w x", "y", name="mixer")]
    before = made(nodes, {"w": mix}, shape=("batch", 5, 8))
    after, _ = steps.weights_on_the_right(made(nodes, {"w": mix}, shape=("batch", 5, 8)))
    (linear,), _ = find_linears(after)
    assert (linear.name, linear.shape) == ("mixer", (5, 3))
    same(run, before, after, x)


def test_functions_are_inlined(run: Run, weight: Array, x: Array) -> None:
    dense = helper.make_function(
        "local", "Dense", ["a", "b"], ["c"], [node("MatMul", "a b", "c")],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [node("Dense", "x w", "h", domain="local"), node("Dense", "h w", "y", domain="local")]
    model = made(nodes, {"w": weight}, functions=[dense])
    model.opset_imports["local"] = 1
    after, _ = steps.inline(model.clone())
    assert [n.op_type for n in after.graph] == ["MatMul", "MatMul"]
    assert not after.functions


def test_old_opsets_are_raised_and_weights_are_no_inputs(run: Run, weight: Array, x: Array) -> None:
    nodes = [
        node("Unsqueeze", "x", "wide", axes=[0]),  # since opset 13 its axes are an input
        node("MatMul", "wide w", "a"),
        node("Squeeze", "a", "y", axes=[0]),
    ]
    before = made(nodes, {"w": weight}, opset=11)
    listed = made(nodes, {"w": weight}, opset=11)
    listed.graph.inputs.append(listed.graph.initializers["w"])
    after = normalize(listed)
    assert after.opset_imports[""] == 13
    assert [v.name for v in after.graph.inputs] == ["x"]
    same(run, before, after, x)
    assert linear_shapes(after) == [(8, 8)]


def test_an_opset_that_cannot_be_raised_says_so(weight: Array) -> None:
    nodes = [node("MatMul", "x w", "a"), node("ATen", "a", "y", operator="erf")]
    with pytest.raises(InputError, match=r"has opset 9, .* raise it to 13[\s\S]+export it again"):
        normalize(made(nodes, {"w": weight}, opset=9))


@pytest.mark.parametrize("kind", ["integer", "dequantized", "blocks"])
def test_a_graph_that_is_quantized_is_refused(kind: str, weight: Array) -> None:
    steps8 = np.ones((8, 8), np.int8)
    nodes = {
        "integer": [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulInteger", "q w", "i"),
            node("Cast", "i", "y", to=TensorProto.FLOAT),
        ],
        "dequantized": [node("DequantizeLinear", "w one", "f"), node("MatMul", "x f", "y")],
        "blocks": [
            node("MatMulNBits", "x w one", "y", domain="com.microsoft", K=8, N=8, block_size=16)
        ],
    }[kind]
    with pytest.raises(InputError, match=r"already quantized \(1 [\s\S]+give the float32 graph"):
        normalize(made(nodes, {"w": steps8, "one": np.float32(1)}))


def test_weights_in_half_are_refused(weight: Array) -> None:
    nodes = [node("Cast", "w", "f", to=TensorProto.FLOAT), node("MatMul", "x f", "y")]
    with pytest.raises(InputError, match="1 of its weights are float16"):
        normalize(made(nodes, {"w": weight.astype(np.float16)}))


def test_fused_operators_pass_through_and_are_listed(run: Run, weight: Array, x: Array) -> None:
    nodes = [
        node("FusedMatMul", "x w", "a", domain="com.microsoft", alpha=0.5, name="scaled"),
        node("BiasGelu", "a b", "g", domain="com.microsoft", name="gelu"),
        node("MatMul", "g w", "c", name="plain"),
        node("FusedMatMul", "c x", "y", domain="com.microsoft", transB=1, name="scores"),
    ]
    held = {"w": weight, "b": np.zeros(8, np.float32)}
    before, after = made(nodes, held), normalize(made(nodes, held))
    linears, left = find_linears(after)
    assert [linear.name for linear in linears] == ["plain"]
    assert {(entry.name, entry.reason) for entry in left} == {
        ("scaled", "fused FusedMatMul: quantize the unoptimized file"),
        ("scores", "both inputs are activations"),
    }
    same(run, before, after, x)
    quantized, facts = quantize_graph(after, RECIPES["int8"], [{"x": x}])
    work = {"scaled": 5 * 8 * 8, "plain": 5 * 8 * 8, "scores": 5 * 8 * 5}
    assert facts["share_of_multiply_accumulates_in_int8"] == pytest.approx(
        work["plain"] / sum(work.values()), abs=1e-4
    )
    assert close(run(quantized, x=x)["y"], run(before, x=x)["y"])


def close(got: Array, wanted: Array) -> bool:
    return bool(np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max())


def test_products_in_a_branch_stay_float_and_are_listed(
    run: Run, rng: np.random.Generator, weight: Array
) -> None:
    """The branch reads a quantized activation, the weight, and what a quantized product gives."""
    body = [node("MatMul", "h w", "inner", name="hidden"), node("Add", "inner x", "chosen")]
    other = [node("Identity", "h", "kept")]
    info = helper.make_tensor_value_info
    nodes = [
        node("MatMul", "x w", "h", name="first"),
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Greater", "sum zero", "positive"),
        helper.make_node(
            "If", ["positive"], ["z"], name="branch",
            then_branch=helper.make_graph(
                body, "then", [], [info("chosen", TensorProto.FLOAT, None)]
            ),
            else_branch=helper.make_graph(
                other, "else", [], [info("kept", TensorProto.FLOAT, None)]
            ),
        ),
        node("MatMul", "z w2", "y", name="last"),
    ]  # fmt: skip
    held = {"w": weight, "w2": weight.T.copy(), "zero": np.float32(0)}
    before, after = made(nodes, held), normalize(made(nodes, held))
    linears, left = find_linears(after)
    assert [linear.name for linear in linears] == ["first", "last"]
    assert [(entry.name, entry.reason) for entry in left] == [
        ("hidden", "it is inside an If or a Loop")
    ]
    feeds = [{"x": rng.standard_normal((4, 5, 8)).astype(np.float32)} for _ in range(4)]
    quantized, facts = quantize_graph(after, RECIPES["int8"], feeds)
    assert facts["left_in_float"] == [{"node": "hidden", "reason": "it is inside an If or a Loop"}]
    for sign in (1.0, -1.0):
        x = (sign * np.abs(feeds[0]["x"])).astype(np.float32)
        assert close(run(quantized, x=x)["y"], run(before, x=x)["y"])


def test_an_einsum_with_a_weight_is_listed(weight: Array, x: Array) -> None:
    nodes = [
        node("Einsum", "x w", "a", equation="bsh,hd->bsd", name="sum"),
        node("MatMul", "a w", "y", name="plain"),
    ]
    model = normalize(made(nodes, {"w": weight}))
    _, facts = quantize_graph(model, RECIPES["int8"], [{"x": x}])
    assert facts["left_in_float"][0]["reason"].startswith("an Einsum")
    assert facts["share_of_multiply_accumulates_in_int8"] == 0.5


def test_gelu_as_torch_export_writes_it_is_found_by_onnxruntime(
    run: Run, weight: Array, x: Array, optimized: Callable[[ir.Model], list[str]]
) -> None:
    nodes = [
        node("MatMul", "x w", "h"),
        node("Div", "h root", "d"),
        node("Erf", "d", "e"),
        node("Add", "e one", "s"),
        node("Mul", "half s", "m"),
        node("Mul", "h m", "y", name="gelu"),
    ]
    held = {"w": weight, "root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    before, after = made(nodes, held), normalize(made(nodes, held))
    np.testing.assert_array_equal(run(before, x=x)["y"], run(after, x=x)["y"])
    assert "Erf" in optimized(before)
    assert "Erf" not in optimized(after)


@pytest.mark.parametrize("recipe", ["int8", "int4", "int8-weight", "int8-static"])
def test_a_product_that_reads_another_at_once_is_quantized(
    recipe: str, run: Run, weight: Array, x: Array
) -> None:
    nodes = [node("MatMul", "x w", "h", name="first"), node("MatMul", "h w2", "y", name="second")]
    held = {"w": np.tile(weight, (1, 4)), "w2": np.tile(weight, (4, 4))}
    before = made(nodes, held)
    quantized, _ = quantize_graph(normalize(made(nodes, held)), RECIPES[recipe], [{"x": x}])
    assert not [n for n in quantized.graph if n.name in ("first", "second")]
    wanted, got = run(before, x=x)["y"], run(quantized, x=x)["y"]
    assert np.abs(got - wanted).max() < 0.2 * np.abs(wanted).max()
