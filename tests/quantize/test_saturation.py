from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgetfm.errors import DataError, InputError
from edgetfm.graphs import save_graph
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.plan import Memo
from edgetfm.quantize.products import find_products
from edgetfm.quantize.rounding import LARGEST_PAIR, Compensation, Quantized, round_nearest
from edgetfm.quantize.saturation import SAMPLE_ROWS, make_safe, overflows, pair_overflow, sample

DYNAMIC = replace(RECIPES["int8"], smoothing=())
STATIC = replace(RECIPES["int8-static"], smoothing=())


def saturating(steps: Any, weight: Any) -> Any:
    """The product as VPMADDUBSW and VPMADDWD make it, in numpy's own 16-bit integers."""
    if len(weight) % 2:
        steps, weight = np.pad(steps, ((0, 0), (0, 1))), np.pad(weight, ((0, 1), (0, 0)))
    a, w = steps.astype(np.int64), weight.astype(np.int64)
    pairs = a[:, 0::2, None] * w[0::2] + a[:, 1::2, None] * w[1::2]
    return np.clip(pairs, -32768, 32767).astype(np.int16).astype(np.int64).sum(axis=1)


@st.composite
def products(draw: st.DrawFn) -> tuple[Any, Any]:
    tokens, inputs, outputs = (draw(st.integers(1, n)) for n in (4, 9, 5))
    steps = arrays(np.uint8, (tokens, inputs), elements=st.sampled_from([0, 1, 128, 130, 254, 255]))
    weight = arrays(np.int8, (inputs, outputs), elements=st.sampled_from([-128, -127, 0, 2, 127]))
    return draw(steps), draw(weight)


@given(products())
def test_what_overflows_is_counted_exactly(given: tuple[Any, Any]) -> None:
    steps, weight = given
    count, lost = pair_overflow(steps, weight)
    exact = steps.astype(np.int64) @ weight.astype(np.int64)
    np.testing.assert_array_equal(exact - lost, saturating(steps, weight))
    pairs = [
        saturating(steps[:, k : k + 2], weight[k : k + 2])
        != steps[:, k : k + 2].astype(np.int64) @ weight[k : k + 2].astype(np.int64)
        for k in range(0, len(weight), 2)
    ]
    assert count == np.sum(pairs)


def test_large_products_are_counted_exactly_too(rng: np.random.Generator) -> None:
    """More outputs than are summed at once, and few that overflow."""
    steps = rng.integers(0, 256, (50, 65)).astype(np.uint8)
    weight = np.clip(rng.normal(size=(65, 300)) * 40, -127, 127).astype(np.int8)
    count, lost = pair_overflow(steps, weight)
    assert 0 < count < 0.01 * 50 * 33 * 300
    exact = steps.astype(np.int64) @ weight.astype(np.int64)
    np.testing.assert_array_equal(exact - lost, saturating(steps, weight))


def worst(weight: Any) -> Any:
    """The activations that come nearest to overflow: all of one sign of some output at once."""
    return np.concatenate([np.where(sign * weight.T > 0, 255, 0) for sign in (1, -1)]).astype("u1")


def nearest(weight: Any, *, pair_safe: bool) -> Quantized:
    return round_nearest(weight, pair_safe=pair_safe)


def compensated(weight: Any, *, pair_safe: bool) -> Quantized:
    rng = np.random.default_rng(len(weight))
    inputs = rng.normal(size=(4 * len(weight), len(weight))) + rng.normal(size=len(weight))
    gram = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    return Compensation(gram, 0.0).round(weight, pair_safe=pair_safe)


@given(
    weight=st.tuples(st.integers(1, 9), st.integers(1, 4)).flatmap(
        lambda shape: arrays(np.float32, shape, elements=st.floats(-4, 4, width=32))
    ),
    rounded=st.sampled_from([nearest, compensated]),
)
@example(np.full((2, 1), np.finfo(np.float32).tiny), nearest)
def test_no_activation_overflows_pair_safe_weights(weight: Any, rounded: Any) -> None:
    values = rounded(weight, pair_safe=True).values
    assert pair_overflow(worst(values), values)[0] == 0


@pytest.mark.parametrize("rounded", [nearest, compensated])
@pytest.mark.parametrize("kind", ["flat", "normal"])
def test_without_it_the_worst_activations_overflow(
    rng: np.random.Generator, rounded: Any, kind: str
) -> None:
    weight = rng.normal(size=(64, 48)).astype(np.float32)
    weight = np.sign(weight) * 0.1 if kind == "flat" else weight
    plain, safe = (rounded(weight, pair_safe=pair_safe).values for pair_safe in (False, True))
    assert pair_overflow(worst(plain), plain)[0] > 0
    assert pair_overflow(worst(safe), safe)[0] == 0


@pytest.mark.parametrize("rounded", [nearest, compensated])
def test_pair_safe_weights_are_nearer_to_eight_bits_than_to_seven(
    rng: np.random.Generator, rounded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = rng.normal(size=(384, 128)).astype(np.float32)

    def error(*, pair_safe: bool = False) -> float:
        values = rounded(weight, pair_safe=pair_safe).dequantized()
        return float(np.linalg.norm(values - weight))

    eight, safe = error(), error(pair_safe=True)
    monkeypatch.setattr("edgetfm.quantize.rounding.LARGEST", LARGEST_PAIR // 2)
    seven = error()
    assert eight < safe < 1.5 * eight
    assert 1.9 * eight < seven


def two_products(builder: Any, rng: np.random.Generator) -> ir.Model:
    """`flat` has weights of one size, whose sums overflow; `steep` has one large in each column."""
    b = builder(x=["n", 64])
    flat = np.where(rng.random((64, 96)) < 0.5, -0.1, 0.1).astype(np.float32)
    steep = (rng.normal(size=(96, 32)) * 0.05).astype(np.float32)
    steep[6:8] = [[0], [1]]
    h = b("Relu", b.linear("x", flat, rng.normal(size=96).astype("f4"), "flat"))
    b("Identity", b.linear(h, steep, None, "steep"), name="y")
    return b.model(y=["n", 32])


def batches(rng: np.random.Generator, count: int = 5) -> list[dict[str, Any]]:
    return [{"x": rng.normal(size=(20, 64)).astype("f4") + 2} for _ in range(count)]


@pytest.mark.parametrize("recipe", [DYNAMIC, STATIC], ids=["dynamic", "static"])
def test_the_node_that_overflows_is_named(
    builder: Any, rng: np.random.Generator, tmp_path: Path, recipe: Any
) -> None:
    feeds = batches(rng)
    made, _ = quantize_graph(two_products(builder, rng), recipe, feeds)
    assert [product.name for product in find_products(made)] == ["flat", "steep"]
    (found,) = overflows(made, feeds)
    assert found.node == "flat"
    assert 0 < found.pairs < found.of == len(sample(feeds)) * 32 * 96
    assert 0.001 < found.error < 1
    save_graph(made, tmp_path / "made.onnx")
    assert overflows(tmp_path / "made.onnx", feeds) == [found]


def test_the_error_is_that_of_the_products_output(builder: Any, rng: np.random.Generator) -> None:
    feeds = batches(rng, 1)
    made, _ = quantize_graph(two_products(builder, rng), DYNAMIC, feeds)
    (found,) = overflows(made, feeds)
    stored = {name: value.const_value for name, value in made.graph.initializers.items()}
    weight, step = (stored[f"flat.weight_{what}"].numpy() for what in ("int8", "scale"))
    lost, exact = [], []
    for item in sample(feeds):
        x = item.feeds["x"]
        low, high = min(x.min(), 0), max(x.max(), 0)
        scale = (high - low) / 255
        zero = np.rint(-low / scale)
        steps = np.clip(np.rint(x / scale) + zero, 0, 255)
        right = (steps - zero) @ weight
        wrong = saturating(steps, weight) - zero * weight.astype(int).sum(axis=0)
        exact.append(right * step * scale)
        lost.append((right - wrong) * step * scale)
    assert found.error == pytest.approx(np.linalg.norm(lost) / np.linalg.norm(exact), rel=1e-3)


@pytest.mark.parametrize("recipe", [DYNAMIC, STATIC], ids=["dynamic", "static"])
def test_only_the_node_that_needs_it_is_cured(
    builder: Any, rng: np.random.Generator, recipe: Any
) -> None:
    model, feeds = two_products(builder, rng), batches(rng)
    plain, _ = quantize_graph(model, recipe, feeds)
    (found,) = overflows(plain, feeds)
    made, facts, cured = make_safe(model, recipe, feeds)
    assert cured == replace(recipe, pair_safe=("flat",))
    assert overflows(made, feeds) == []
    assert facts["saturation"] == {"items": len(sample(feeds)), "cured": [found.to_json()]}
    before, after = ({p.name: p.matrix() for p in find_products(m)} for m in (plain, made))
    np.testing.assert_array_equal(before["steep"], after["steep"])
    assert not np.array_equal(before["flat"], after["flat"])


def test_a_graph_without_overflow_is_made_as_ever(
    builder: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    b = builder(x=["n", 64])
    weight = (rng.normal(size=(64, 32)) * 0.05).astype(np.float32)
    weight[6:8] = [[0], [1]]
    b("Identity", b.linear("x", weight, None, "steep"), name="y")
    model, feeds = b.model(y=["n", 32]), batches(rng)
    made, facts, recipe = make_safe(model, DYNAMIC, feeds)
    assert recipe == DYNAMIC
    assert facts["saturation"]["cured"] == []
    save_graph(made, tmp_path / "made.onnx")
    save_graph(quantize_graph(model, DYNAMIC, feeds)[0], tmp_path / "plain.onnx")
    assert (tmp_path / "made.onnx").read_bytes() == (tmp_path / "plain.onnx").read_bytes()


def test_the_cured_recipe_remakes_the_cured_graph(
    builder: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    model, feeds = two_products(builder, rng), batches(rng)
    made, _, recipe = make_safe(model, RECIPES["int8"], feeds, memo=Memo())
    save_graph(made, tmp_path / "made.onnx")
    save_graph(quantize_graph(model, recipe, feeds)[0], tmp_path / "again.onnx")
    assert (tmp_path / "made.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_a_tied_table_is_cured_for_all_its_readers(
    builder: Any, run: Callable[..., Any], rng: np.random.Generator
) -> None:
    """The table is the weight of two products; curing one changes the steps of the other."""
    b = builder(input_ids=["n"], x=["n", 16])
    table = b.constant(np.where(rng.random((1200, 16)) < 0.5, -0.1, 0.1).astype("f4"), "table")
    rows = b("Gather", table, "input_ids", axis=0)
    turned = b("Transpose", table, perm=[1, 0])
    one = b("MatMul", b("Relu", b("Add", "x", rows)), turned, name="one")
    # Steps in 0 and 1 alone: too small to overflow.
    other = b("MatMul", b("Sign", b("Relu", "x")), turned, name="other")
    b("Add", one, b("Mul", other, b.constant(np.float32(0))), name="y")
    model = b.model(y=["n", 1200])
    feeds = [
        {"input_ids": rng.integers(0, 1200, 8), "x": rng.normal(size=(8, 16)).astype("f4") + 1}
        for _ in range(3)
    ]
    memo = Memo()
    made, facts, recipe = make_safe(model, replace(DYNAMIC, rounding="nearest"), feeds, memo=memo)
    assert "one" in recipe.pair_safe
    assert facts["embeddings"][0]["table"] == "table"
    assert overflows(made, feeds) == []
    got, wanted = run(made, **feeds[0])["y:0"], run(model, **feeds[0])["y:0"]
    assert np.linalg.norm(got - wanted) < 0.02 * np.linalg.norm(wanted)


def test_weights_of_other_kinds_do_not_overflow(builder: Any, rng: np.random.Generator) -> None:
    """Blocks are multiplied in other kernels, u8 x u8 in 32 bits, and fp16 not in integers."""
    model, feeds = two_products(builder, rng), batches(rng)
    for recipe in (
        RECIPES["fp16"],
        RECIPES["a16w8"],
        replace(DYNAMIC, by_block=("flat",)),
        replace(DYNAMIC, keep_float=("flat",)),
    ):
        assert overflows(quantize_graph(model, recipe, feeds)[0], feeds) == []


def test_the_sample_is_whole_items_from_all_over_the_data(rng: np.random.Generator) -> None:
    def batch(length: int) -> dict[str, Any]:
        mask = np.ones((4, length), np.int64)
        mask[0, length // 2 :] = 0
        return {"input_ids": np.full((4, length), length), "attention_mask": mask}

    taken = sample([batch(length) for length in range(100, 200)])
    assert 0.8 * SAMPLE_ROWS < sum(item.tokens for item in taken) < 1.3 * SAMPLE_ROWS
    lengths = [int(item.feeds["input_ids"][0, 0]) for item in taken]
    assert (lengths[0], lengths[-1]) == (100, 199)
    assert len(sample([batch(100)])) == 4


def test_without_data_there_is_nothing_to_replay(builder: Any, rng: np.random.Generator) -> None:
    model = two_products(builder, rng)
    made, _ = quantize_graph(model, DYNAMIC, batches(rng))
    with pytest.raises(DataError, match="no calibration data"):
        overflows(made, [])


def test_a_recipe_that_cures_unknown_nodes_is_refused(
    builder: Any, rng: np.random.Generator
) -> None:
    recipe = replace(DYNAMIC, pair_safe=("flat", "round"))
    with pytest.raises(InputError, match="makes pair-safe nodes that are not in the graph: round"):
        quantize_graph(two_products(builder, rng), recipe, batches(rng))
