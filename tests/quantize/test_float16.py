from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.errors import InputError
from edgetfm.quantize import RECIPES, quantize_graph

FP16 = RECIPES["fp16"]


def encoder(builder: Any, rng: np.random.Generator) -> ir.Model:
    """Attention under a mask, a norm, a Gelu and mean pooling over a guarded length."""
    b = builder(input_ids=["n", "m"], attention_mask=["n", "m"])

    def f(*shape: int) -> Any:
        return rng.normal(size=shape).astype("f4")

    x = b("Gather", b.constant(f(50, 16)), "input_ids")
    mask = b("Cast", "attention_mask", to=1)
    hidden = b("Mul", b("Sub", b.constant(np.float32(1)), mask), b.constant(np.float32(-1e4)))
    bias = b("Unsqueeze", hidden, b.constant(np.array([1])))
    scores = b("MatMul", b.linear(x, f(16, 16)), b("Transpose", x, perm=[0, 2, 1]))
    x = b("MatMul", b("Softmax", b("Add", scores, bias), axis=-1), x)
    x = b("LayerNormalization", x, b.constant(f(16)), b.constant(f(16)), epsilon=1e-12, name="norm")
    x = b.linear(x, f(16, 16), f(16))
    kept = b("Mul", x, b("Unsqueeze", mask, b.constant(np.array([2]))))
    axis = b.constant(np.array([1]))
    length = b("ReduceSum", mask, axis, keepdims=1)
    length = b("Max", length, b.constant(np.float32(1e-9)))
    b("Div", b("ReduceSum", kept, axis, keepdims=0), length, name="pooled")
    return b.model(pooled=["n", 16])


def test_answers_stay_and_inputs_and_outputs_keep_their_types(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    model = encoder(builder, rng)
    half, facts = quantize_graph(model, FP16, [])
    ids = rng.integers(0, 50, (3, 17))
    mask = (np.arange(17) < np.array([[17], [9], [1]])).astype(np.int64)
    feeds = {"input_ids": ids, "attention_mask": mask}
    got, wanted = (run(m, **feeds)["pooled:0"] for m in (half, model))
    assert got.dtype == np.float32
    cosine = (got * wanted).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)
    assert cosine.min() > 0.9999
    assert facts["weights_in_float16"] >= 6
    assert any("Max: a constant that half cannot hold" in kind for kind in facts["kept_in_float32"])


def test_weights_are_half_and_the_mask_stays_finite(builder: Any, rng: np.random.Generator) -> None:
    half, _ = quantize_graph(encoder(builder, rng), FP16, [])
    floats = [
        v.const_value for v in half.graph.initializers.values() if v.dtype != ir.DataType.INT64
    ]
    for tensor in floats:
        assert tensor.size == 1 or tensor.dtype == ir.DataType.FLOAT16
        assert np.isfinite(tensor.numpy()).all()
    assert any(tensor.numpy().min() == -1e4 for tensor in floats)


def test_what_half_cannot_hold_stays_finite(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", 4])
    b("Add", "x", b.constant(np.array([-3.4e38, 0, 1, 3.4e38], "f4")), name="sum")
    b("Softmax", "sum:0", axis=-1, name="y")
    half, _ = quantize_graph(b.model(y=["n", 4]), FP16, [])
    assert run(half, x=np.zeros((1, 4), "f4"))["y:0"].tolist() == [[0, 0, 0, 1]]


def test_float_inputs_are_cast_inside(
    builder: Any, run: Any, rng: np.random.Generator, ops: Callable[[ir.Model], list[str]]
) -> None:
    b = builder(x=["n", 8])
    b.linear("x", rng.normal(size=(8, 8)).astype("f4"), name="y")
    half, _ = quantize_graph(b.model(y=["n", 8]), FP16, [])
    assert ops(half) == ["Cast", "MatMul", "Cast"]
    assert [v.dtype for v in (*half.graph.inputs, *half.graph.outputs)] == [ir.DataType.FLOAT] * 2


def test_the_model_given_is_not_changed(builder: Any, run: Any, rng: np.random.Generator) -> None:
    model = encoder(builder, rng)
    quantize_graph(model, FP16, [])
    assert all(v.dtype != ir.DataType.FLOAT16 for node in model.graph for v in node.outputs)
    assert all(v.dtype != ir.DataType.FLOAT16 for v in model.graph.initializers.values())


def test_a_graph_whose_types_cannot_be_followed_is_refused() -> None:
    node = ir.node("Mystery", [], domain="somewhere", num_outputs=1)
    node.outputs[0].name = "y"
    graph = ir.Graph([], [node.outputs[0]], nodes=[node], opset_imports={"": 18, "somewhere": 1})
    with pytest.raises(InputError, match="float16 is not possible: the types of y"):
        quantize_graph(ir.Model(graph, ir_version=8), FP16, [])
