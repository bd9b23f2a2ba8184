from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.errors import InputError
from edgetfm.graphs import save_graph
from edgetfm.quantize import RECIPES, Recipe, quantize_graph
from edgetfm.quantize.oracle import dequantized
from edgetfm.quantize.plan import Memo
from edgetfm.runtime.session import make_session
from edgetfm.signature import Feeds
from tests.plain import Exported
from tests.quantize.test_models import mean_cosine, prepared

EIGHT, FOUR = RECIPES["int8-weight"], RECIPES["int4"]
BOTH = pytest.mark.parametrize("recipe", [EIGHT, FOUR], ids=["int8-weight", "int4"])


def mlp(builder: Any, rng: np.random.Generator, inputs: int = 64) -> ir.Model:
    b = builder(x=["n", inputs])
    weight = rng.normal(size=(inputs, 100)).astype("f4")
    up = b.linear("x", weight, rng.normal(size=100).astype("f4"), "up")
    b.linear(b("Relu", up), rng.normal(size=(100, 48)).astype("f4"), None, "down")
    return b.model(down=["n", 48])


def batches(rng: np.random.Generator, inputs: int = 64) -> list[Feeds]:
    return [{"x": rng.normal(size=(20, inputs)).astype("f4")} for _ in range(6)]


def cosine(one: Any, other: Any) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


def at_level(model: ir.Model, level: int) -> ir.Model:
    """A copy whose products in blocks round activations to 8 bits (4) or not at all (0, 1)."""
    copy = model.clone()
    for node in copy.graph:
        if node.op_type == "MatMulNBits":
            node.attributes.add(ir.AttrInt64("accuracy_level", level))
    return copy


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "zero points"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("inputs", [16, 40, 64, 100])
def test_the_kernels_answer_what_float_answers_on_the_dequantized_weights(
    builder: Any, run: Any, rng: np.random.Generator, inputs: int, bits: int, symmetric: bool
) -> None:
    """With activations in float to rounding; in 8 bits to the error of a step a token and block."""
    recipe = replace(FOUR if bits == 4 else EIGHT, symmetric=symmetric)
    model, x = mlp(builder, rng, inputs), batches(rng, inputs)[0]["x"]
    blocks, facts = quantize_graph(model, recipe, batches(rng, inputs))
    assert [node.op_type for node in blocks.graph].count("MatMulNBits") == 2
    assert facts["matrix_products_in_blocks"] == 2
    oracle = dequantized(blocks)
    assert "MatMulNBits" not in [node.op_type for node in oracle.graph]
    wanted = run(oracle, x=x)["down:0"]
    for level in (0, 1):
        got = run(at_level(blocks, level), x=x)["down:0"]
        assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()
    for optimize in (False, True):
        got = run(blocks, optimize=optimize, x=x)["down:0"]
        assert np.abs(got - wanted).max() < 0.02 * np.abs(wanted).max()


@pytest.mark.parametrize(("bits", "least"), [(8, 0.9999), (4, 0.98)])
def test_blocks_follow_float(
    builder: Any, run: Any, rng: np.random.Generator, bits: int, least: float
) -> None:
    model, x = mlp(builder, rng), batches(rng)[0]["x"]
    recipe = FOUR if bits == 4 else EIGHT
    blocks, _ = quantize_graph(model, recipe, batches(rng))
    assert cosine(run(blocks, x=x)["down:0"], run(model, x=x)["down:0"]) > least
    assert blocks.opset_imports["com.microsoft"] == 1


def test_an_answer_does_not_depend_on_its_neighbours_in_the_batch(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    model, feeds = mlp(builder, rng), batches(rng)
    row = rng.normal(size=(1, 64)).astype("f4")
    beside = np.concatenate([row, 50 * rng.normal(size=(1, 64)).astype("f4")])

    def moved(recipe: Recipe) -> float:
        graph, _ = quantize_graph(model, recipe, feeds)
        alone, together = (run(graph, x=x)["down:0"][0] for x in (row, beside))
        return float(np.abs(alone - together).max() / np.abs(alone).max())

    assert moved(EIGHT) == 0
    assert moved(RECIPES["int8"]) > 0.1


@BOTH
def test_all_zero_inputs_and_outputs_stay_zero(
    builder: Any, run: Any, rng: np.random.Generator, recipe: Recipe
) -> None:
    b = builder(x=["n", 48])
    weight = rng.normal(size=(48, 8)).astype("f4")
    weight[:, 2] = 0
    weight[32:, 5] = 0
    b.linear("x", weight, None, "y")
    x = rng.normal(size=(5, 48)).astype("f4")
    x[:, 4] = 0
    model = b.model(y=["n", 8])
    for symmetric in (True, False):
        blocks, _ = quantize_graph(model, replace(recipe, symmetric=symmetric), [{"x": x}])
        assert (run(blocks, x=x)["y:0"][:, 2] == 0).all()
        rounded = dequantized(blocks).graph.initializers["y_blocks_dequantized"].const_value
        assert rounded is not None
        assert (rounded.numpy()[32:, 5] == 0).all()
        assert (run(blocks, x=0 * x)["y:0"] == 0).all()


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_and_its_bias_become_one_node(
    builder: Any, run: Any, rng: np.random.Generator, turned: int, ops: Any
) -> None:
    b = builder(x=["n", 16])
    weight = rng.normal(size=(8, 16) if turned else (16, 8)).astype("f4")
    b("Gemm", "x", b.constant(weight), b.constant(np.ones(8, "f4")), transB=turned, name="y")
    model = b.model(y=["n", 8])
    x = rng.normal(size=(40, 16)).astype("f4")
    blocks, _ = quantize_graph(model, EIGHT, [{"x": x}])
    assert ops(blocks) == ["MatMulNBits"]
    assert cosine(run(blocks, x=x)["y:0"], run(model, x=x)["y:0"]) > 0.9999


def tied(builder: Any, rng: np.random.Generator, width: int, *, twice: bool = False) -> ir.Model:
    """A table of 1200 words that is also the last layer, or both of two last layers."""
    b = builder(input_ids=["n", "m"])
    table = b.constant((rng.normal(size=(1200, width))).astype("f4"), "table")
    turned = b("Transpose", table, perm=[1, 0])
    h = b("Relu", b("Gather", table, "input_ids", name="words"))
    b("MatMul", h, turned, name="logits")
    if twice:
        b("MatMul", b("Sqrt", h), turned, name="second")
    outputs = ("logits", "second") if twice else ("logits",)
    return b.model(**{name: ["n", "m", 1200] for name in outputs})


@pytest.mark.parametrize(
    ("recipe", "width"),
    [(EIGHT, 32), (FOUR, 48), (replace(RECIPES["int8"], by_block=("logits",)), 32)],
    ids=["int8-weight", "int4", "by_block"],
)
def test_a_tied_table_is_stored_once(
    builder: Any, run: Any, rng: np.random.Generator, recipe: Recipe, width: int
) -> None:
    """In 8 bits with a scale a row, whatever the recipe: gathered rows and the product agree."""
    model, ids = tied(builder, rng, width), rng.integers(0, 1200, (2, 9))
    blocks, facts = quantize_graph(model, recipe, [{"input_ids": ids}])
    weights = [v.const_value for v in blocks.graph.initializers.values() if v.const_value]
    assert [w.dtype for w in weights if w.nbytes > 1200 * 8] == [ir.DataType.UINT8]
    (node,) = facts["nodes"]
    assert (node["shares"], node["bytes"]) == ("table", 0)
    assert node["form"] == f"8-bit blocks of {32 if width == 32 else 16}"
    wanted = run(dequantized(blocks), input_ids=ids)["logits:0"]
    for optimize in (False, True):
        got = run(blocks, optimize=optimize, input_ids=ids)["logits:0"]
        assert np.abs(got - wanted).max() < 0.02 * np.abs(wanted).max()
    assert cosine(wanted, run(model, input_ids=ids)["logits:0"]) > 0.9999


def test_a_table_that_blocks_do_not_divide_is_stored_twice(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    model, ids = tied(builder, rng, 40), rng.integers(0, 1200, (2, 9))
    blocks, facts = quantize_graph(model, EIGHT, [{"input_ids": ids}])
    (node,) = facts["nodes"]
    assert "shares" not in node
    assert node["stored_twice"] == "table"
    assert node["bytes"] == 1200 * 3 * (16 + 4)
    got, wanted = (run(m, input_ids=ids)["logits:0"] for m in (blocks, model))
    assert cosine(got, wanted) > 0.9999


def test_a_table_that_an_int8_product_reads_too_stays_signed(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    model, ids = tied(builder, rng, 32, twice=True), rng.integers(0, 1200, (2, 9))
    recipe = replace(RECIPES["int8"], by_block=("second",))
    mixed, facts = quantize_graph(model, recipe, [{"input_ids": ids}])
    assert facts["matrix_products_in_int8"] == facts["matrix_products_in_blocks"] == 1
    assert not any("shares" in node for node in facts["nodes"])
    got, wanted = (run(m, input_ids=ids) for m in (mixed, model))
    for name in ("logits:0", "second:0"):
        assert cosine(got[name], wanted[name]) > 0.9999


@BOTH
def test_the_same_recipe_and_data_give_the_same_bytes(
    builder: Any, rng: np.random.Generator, tmp_path: Path, recipe: Recipe
) -> None:
    model, feeds = mlp(builder, rng), batches(rng)
    for name in ("one.onnx", "two.onnx"):
        save_graph(quantize_graph(model, recipe, feeds)[0], tmp_path / name)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_nearest_needs_no_data_and_facts_say_what_was_done(
    builder: Any, rng: np.random.Generator
) -> None:
    model = mlp(builder, rng)
    _, facts = quantize_graph(model, replace(FOUR, rounding="nearest"), [])
    assert facts["nodes"][0] == {
        "node": "up",
        "shape": [64, 100],
        "form": "4-bit blocks of 32",
        "bytes": 100 * (32 + 2 * 4 + 1),
    }
    _, facts = quantize_graph(model, replace(FOUR, by_block=("down",)), batches(rng))
    assert [n["form"][:5] for n in facts["nodes"]] == ["4-bit", "8-bit"]
    assert facts["nodes"][1]["error"] < facts["nodes"][0]["error"] / 3
    assert facts["share_of_multiply_accumulates_in_blocks"] == 1
    assert facts["bytes_in_blocks"] == sum(n["bytes"] for n in facts["nodes"])


def three(builder: Any, rng: np.random.Generator) -> ir.Model:
    """Three products of one normed activation with a channel 80 times larger than the others."""
    b = builder(x=["n", 64])
    gain = np.ones(64, "f4")
    gain[7] = 80
    h = b("LayerNormalization", "x", b.constant(gain), b.constant(np.zeros(64, "f4")), name="norm")
    for name in "qkv":
        b.linear(h, rng.normal(size=(64, 32)).astype("f4"), np.ones(32, "f4"), name)
    return b.model(q_add=["n", 32], k_add=["n", 32], v_add=["n", 32])


def test_products_in_blocks_leave_the_smoothing_of_the_others_right(
    builder: Any, run: Any, rng: np.random.Generator, ops: Any
) -> None:
    """The scale would fold into the norm if all its readers were int8: it must not here."""
    model, feeds, x = three(builder, rng), batches(rng), batches(rng)[0]["x"]
    _, facts = quantize_graph(model, RECIPES["int8"], feeds)
    assert {node.get("smoothing") for node in facts["nodes"]} == {"folded into norm"}
    mixed, facts = quantize_graph(model, replace(RECIPES["int8"], by_block=("k",)), feeds)
    assert sorted(ops(mixed).count(op) for op in ("MatMulInteger", "MatMulNBits")) == [1, 2]
    assert {n["node"]: n.get("smoothing", n.get("form")) for n in facts["nodes"]} == {
        "q": "a Mul",
        "v": "a Mul",
        "k": "8-bit blocks of 32",
    }
    got, wanted = (run(m, x=x) for m in (mixed, model))
    for name in ("q_add:0", "k_add:0", "v_add:0"):
        assert cosine(got[name], wanted[name]) > 0.9995


def test_decisions_that_are_kept_give_the_same_bytes(
    builder: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    model, feeds, memo = three(builder, rng), batches(rng), Memo()
    recipes = [replace(RECIPES["int8"], by_block=names) for names in (("q", "k"), ("k",))]
    recipes += [recipes[0], FOUR, replace(FOUR, symmetric=True), replace(FOUR, block_size=16)]
    for number, recipe in enumerate(recipes):
        graph, _ = quantize_graph(model, recipe, feeds, memo=memo)
        save_graph(graph, tmp_path / f"{number}.onnx")
        save_graph(quantize_graph(model, recipe, feeds)[0], tmp_path / "alone.onnx")
        assert (tmp_path / f"{number}.onnx").read_bytes() == (tmp_path / "alone.onnx").read_bytes()


def test_a_recipe_that_names_other_nodes_or_one_twice_is_refused(
    builder: Any, rng: np.random.Generator
) -> None:
    recipe = replace(EIGHT, by_block=("sideways", "up"), keep_float=("up",))
    with pytest.raises(InputError) as caught:
        quantize_graph(mlp(builder, rng), recipe, batches(rng))
    assert "not in the graph: sideways" in str(caught.value)
    assert "puts them in blocks too: up" in str(caught.value)


def test_static_recipes_take_products_in_blocks(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    model, feeds, x = three(builder, rng), batches(rng), batches(rng)[0]["x"]
    recipe = replace(RECIPES["int8-static"], by_block=("k",))
    mixed, facts = quantize_graph(model, recipe, feeds)
    assert facts["matrix_products_in_blocks"] == 1
    got, wanted = (run(m, x=x) for m in (mixed, model))
    for name in ("q_add:0", "k_add:0", "v_add:0"):
        assert cosine(got[name], wanted[name]) > 0.995


def test_a_real_masked_language_model_in_blocks(masked_lm_bundle: Exported, tmp_path: Path) -> None:
    """Its table of words is also its last layer, in 8 bits for both."""
    model, fit, judged = prepared(masked_lm_bundle.bundle)
    table, losses, sizes = 30522 * (128 + 4), [], []
    for recipe in (EIGHT, FOUR, replace(FOUR, rounding="nearest")):
        blocks, facts = quantize_graph(model, recipe, fit)
        losses.append(1 - mean_cosine(blocks, model, judged[:1], tmp_path))
        sizes.append((tmp_path / "got.onnx").stat().st_size)
        assert facts["matrix_products_in_blocks"] == 10
        assert facts["share_of_multiply_accumulates_in_blocks"] > 0.95
        assert sizes[-1] < table + facts["bytes_in_blocks"] + 600_000
    assert losses[0] < 1e-4
    assert losses[1] < 0.6 * losses[2] < 3e-3
    assert sizes[1] < sizes[0] < (tmp_path / "wanted.onnx").stat().st_size / 3.5


@pytest.mark.slow
def test_minilm_in_blocks(minilm_bundle: Exported, tmp_path: Path) -> None:
    """Pooled vectors of texts that calibration did not see, beside float32."""
    model, fit, judged = prepared(minilm_bundle.bundle)
    save_graph(model, tmp_path / "float.onnx")
    wanted = pooled(tmp_path / "float.onnx", judged)
    worst: dict[str, float] = {}
    mean: dict[str, float] = {}
    for name, recipe in (
        ("int8-weight", EIGHT),
        ("int4", FOUR),
        ("int4 nearest", replace(FOUR, rounding="nearest")),
        ("int4 symmetric", replace(FOUR, symmetric=True)),
    ):
        path = tmp_path / f"{name}.onnx"
        save_graph(quantize_graph(model, recipe, fit)[0], path)
        cosines = (pooled(path, judged) * wanted).sum(axis=1)
        mean[name], worst[name] = float(cosines.mean()), float(cosines.min())
    assert mean["int8-weight"] > 0.9995
    assert worst["int8-weight"] > 0.998
    assert mean["int4"] > 0.98
    assert 1 - mean["int4"] < 0.6 * (1 - mean["int4 nearest"])
    assert mean["int4"] > mean["int4 symmetric"]


def pooled(path: Path, judged: list[Feeds]) -> Any:
    """The mean over the tokens of each text, of length 1."""
    session, found = make_session(path, threads=1), []
    for feeds in judged:
        output = session.run(feeds)["last_hidden_state"]
        mask = feeds["attention_mask"][..., None].astype("f4")
        found.append((output * mask).sum(axis=1))
    vectors = np.concatenate(found)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
