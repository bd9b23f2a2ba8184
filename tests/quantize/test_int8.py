from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.errors import DataError, InputError
from edgetfm.graphs import save_graph
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.oracle import dequantized

PLAIN = replace(RECIPES["int8"], smoothing=(), rounding="nearest")
FULL = RECIPES["int8"]


def mlp(builder: Any, rng: np.random.Generator, outlier: float = 1.0) -> ir.Model:
    b = builder(x=["n", 64])
    gain = np.ones(64, "f4")
    gain[7] = outlier
    h = b("LayerNormalization", "x", b.constant(gain), b.constant(np.zeros(64, "f4")), name="norm")
    up = b.linear(h, rng.normal(size=(64, 96)).astype("f4"), rng.normal(size=96).astype("f4"), "up")
    down = b.linear(b("Relu", up), rng.normal(size=(96, 64)).astype("f4"), None, "down")
    b("Add", down, h, name="y")
    return b.model(y=["n", 64])


def batches(rng: np.random.Generator, count: int = 6) -> list[dict[str, Any]]:
    return [{"x": rng.normal(size=(20, 64)).astype("f4")} for _ in range(count)]


def cosine(one: Any, other: Any) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("recipe", [PLAIN, FULL], ids=["plain", "full"])
def test_int8_follows_float(builder: Any, run: Any, rng: np.random.Generator, recipe: Any) -> None:
    model = mlp(builder, rng)
    int8, facts = quantize_graph(model, recipe, batches(rng))
    x = batches(rng, 1)[0]["x"]
    assert cosine(run(int8, x=x)["y:0"], run(model, x=x)["y:0"]) > 0.9995
    assert facts["matrix_products_in_int8"] == 2


def test_smoothing_cures_an_outlier_channel(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    model, feeds, x = mlp(builder, rng, outlier=80.0), batches(rng), batches(rng, 1)[0]["x"]
    wanted = run(model, x=x)["y:0"]
    losses = [
        1 - cosine(run(quantize_graph(model, recipe, feeds)[0], x=x)["y:0"], wanted)
        for recipe in (PLAIN, FULL)
    ]
    assert losses[1] < losses[0] / 5


def test_the_model_given_is_not_changed(
    builder: Any, rng: np.random.Generator, ops: Callable[[ir.Model], list[str]]
) -> None:
    model = mlp(builder, rng)
    before = ops(model), sorted(model.graph.initializers), [v.name for v in model.graph.outputs]
    quantize_graph(model, FULL, batches(rng))
    assert before == (
        ops(model),
        sorted(model.graph.initializers),
        [v.name for v in model.graph.outputs],
    )


def test_the_kernels_answer_what_float_answers_on_the_dequantized_weights(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    """Separates a wrong kernel from honest rounding: only activations are rounded in between."""
    model, x = mlp(builder, rng), batches(rng, 1)[0]["x"]
    int8, _ = quantize_graph(model, FULL, batches(rng))
    oracle = dequantized(int8)
    assert "MatMulInteger" not in [node.op_type for node in oracle.graph]
    wanted = run(oracle, x=x)["y:0"]
    for optimize in (False, True):
        got = run(int8, optimize=optimize, x=x)["y:0"]
        assert np.abs(got - wanted).max() < 0.02 * np.abs(wanted).max()
    float_answer = run(model, x=x)["y:0"]
    assert 0 < np.abs(wanted - float_answer).max() < 0.02 * np.abs(float_answer).max()


def test_onnxruntime_fuses_every_product(
    builder: Any, rng: np.random.Generator, optimized: Callable[[ir.Model], list[str]]
) -> None:
    int8, _ = quantize_graph(mlp(builder, rng, outlier=80.0), FULL, batches(rng))
    ops = optimized(int8)
    assert ops.count("DynamicQuantizeMatMul") == 2
    assert "MatMulInteger" not in ops


def test_products_that_share_an_activation_share_its_quantization(
    builder: Any, run: Any, rng: np.random.Generator, optimized: Any, ops: Any
) -> None:
    b = builder(x=["n", 32])
    weights = [rng.normal(size=(32, 16)).astype("f4") for _ in range(3)]
    parts = [
        b.linear("x", w, np.ones(16, "f4"), name) for w, name in zip(weights, "qkv", strict=True)
    ]
    b("Concat", *parts, axis=-1, name="y")
    model = b.model(y=["n", 48])
    feeds = [{"x": rng.normal(size=(9, 32)).astype("f4")} for _ in range(4)]
    int8, _ = quantize_graph(model, FULL, feeds)
    assert ops(int8).count("DynamicQuantizeLinear") == 1
    assert optimized(int8).count("MatMulIntegerToFloat") == 3
    x = feeds[0]["x"]
    assert cosine(run(int8, x=x)["y:0"], run(model, x=x)["y:0"]) > 0.9999


@pytest.mark.parametrize(
    "x",
    [np.zeros((4, 64), "f4"), np.full((4, 64), 3.0, "f4"), np.eye(1, 64, dtype="f4")],
    ids=["zeros", "constant", "single row"],
)
def test_degenerate_activations_work(
    builder: Any, run: Any, rng: np.random.Generator, x: Any
) -> None:
    model = mlp(builder, rng)
    int8, _ = quantize_graph(model, FULL, [{"x": x}])
    got, wanted = (run(m, x=x)["y:0"] for m in (int8, model))
    assert np.abs(got - wanted).max() <= 0.02 * max(1.0, np.abs(wanted).max())


def test_a_channel_of_zeros_stays_zero(builder: Any, run: Any, rng: np.random.Generator) -> None:
    b = builder(x=["n", 16])
    weight = rng.normal(size=(16, 8)).astype("f4")
    weight[:, 2] = 0
    b.linear("x", weight, None, "y")
    x = rng.normal(size=(5, 16)).astype("f4")
    x[:, 4] = 0
    int8, _ = quantize_graph(b.model(y=["n", 8]), FULL, [{"x": x}])
    assert (run(int8, x=x)["y:0"][:, 2] == 0).all()


def test_a_weight_shared_by_two_products_works(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", 16])
    shared = b.constant(rng.normal(size=(16, 16)).astype("f4"), "shared")
    h = b("Relu", b("MatMul", "x", shared, name="one"))
    b("MatMul", h, shared, name="two")
    model = b.model(two=["n", 16])
    feeds = [{"x": rng.normal(size=(30, 16)).astype("f4")} for _ in range(4)]
    int8, facts = quantize_graph(model, FULL, feeds)
    assert facts["matrix_products_in_int8"] == 2
    x = feeds[0]["x"]
    assert cosine(run(int8, x=x)["two:0"], run(model, x=x)["two:0"]) > 0.999


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_becomes_int8_too(
    builder: Any, run: Any, rng: np.random.Generator, turned: int
) -> None:
    b = builder(x=["n", 16])
    weight = rng.normal(size=(8, 16) if turned else (16, 8)).astype("f4")
    b("Gemm", "x", b.constant(weight), b.constant(np.ones(8, "f4")), transB=turned, name="y")
    model = b.model(y=["n", 8])
    x = rng.normal(size=(40, 16)).astype("f4")
    int8, facts = quantize_graph(model, FULL, [{"x": x}])
    assert facts["matrix_products_in_int8"] == 1
    assert cosine(run(int8, x=x)["y:0"], run(model, x=x)["y:0"]) > 0.999


def test_nodes_kept_in_float_are_said_and_share_the_work(
    builder: Any, rng: np.random.Generator
) -> None:
    recipe = replace(FULL, keep_float=("up",))
    _, facts = quantize_graph(mlp(builder, rng), recipe, batches(rng))
    assert facts["left_in_float"] == [{"node": "up", "reason": "the recipe keeps it in float"}]
    assert facts["share_of_multiply_accumulates_in_int8"] == 0.5


def test_a_recipe_that_keeps_unknown_nodes_is_refused(
    builder: Any, rng: np.random.Generator
) -> None:
    with pytest.raises(InputError, match="not in the graph: sideways"):
        quantize_graph(mlp(builder, rng), replace(FULL, keep_float=("sideways",)), batches(rng))


def test_calibration_that_is_missing_or_makes_nan_is_refused(
    builder: Any, rng: np.random.Generator
) -> None:
    model = mlp(builder, rng)
    with pytest.raises(DataError, match="needs calibration data"):
        quantize_graph(model, FULL, [])
    feeds = batches(rng, 2)
    feeds[1]["x"][3, 5] = np.nan
    with pytest.raises(DataError, match="item 24 has NaN or Inf in x"):
        quantize_graph(model, FULL, feeds)
    b = builder(x=["n", 8])
    b.linear(b("Exp", "x", name="exp"), rng.normal(size=(8, 8)).astype("f4"), name="y")
    feeds = [{"x": np.array([[1.0] * 8, [99.0] * 8], "f4")}]
    with pytest.raises(DataError, match="item 2 makes NaN or Inf in exp"):
        quantize_graph(b.model(y=["n", 8]), FULL, feeds)


def test_without_observing_no_data_is_needed(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    model, x = mlp(builder, rng), batches(rng, 1)[0]["x"]
    int8, facts = quantize_graph(model, PLAIN, [])
    assert cosine(run(int8, x=x)["y:0"], run(model, x=x)["y:0"]) > 0.999
    assert "error" not in facts["nodes"][0]


def test_the_same_recipe_and_data_give_the_same_bytes(
    builder: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    model, feeds = mlp(builder, rng, outlier=20.0), batches(rng)
    for name in ("one.onnx", "two.onnx"):
        save_graph(quantize_graph(model, FULL, feeds)[0], tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_convolution_counts_as_work_left_in_float(builder: Any, rng: np.random.Generator) -> None:
    b = builder(x=["n", 3, 4, 4])
    kernel = b.constant(rng.normal(size=(8, 3, 2, 2)).astype("f4"))
    h = b("Conv", "x", kernel, name="patches", strides=[2, 2])
    h = b("Transpose", b("Reshape", h, b.constant(np.array([0, 8, 4]))), perm=[0, 2, 1])
    b.linear(h, rng.normal(size=(8, 8)).astype("f4"), name="y")
    feeds = [{"x": rng.normal(size=(2, 3, 4, 4)).astype("f4")}]
    _, facts = quantize_graph(b.model(y=["n", 4, 8]), FULL, feeds)
    conv, product = 8 * 4 * (3 * 2 * 2), 4 * 8 * 8
    share = facts["share_of_multiply_accumulates_in_int8"]
    assert share == pytest.approx(product / (conv + product), abs=1e-4)
