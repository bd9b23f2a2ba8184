"""Static graphs: what they round, and the wrong answers that each of their cures prevents.

The encoder here is small and hard: its mask is filled with -3.4e38, its padding token has a huge
embedding, and its texts have different lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.errors import DataError, InputError
from edgetfm.graphs import read_graph, save_graph
from edgetfm.ledger import rung
from edgetfm.proof import DEVICE_BOUNDS, Subject, answers_of
from edgetfm.quantize import RECIPES, quantize_graph, read_calibration
from edgetfm.quantize.edges import MARGIN, Edge, all_edges
from edgetfm.quantize.histogram import Histogram
from edgetfm.quantize.masks import find_masks
from edgetfm.quantize.oracle import dequantized
from edgetfm.quantize.ranges import Range, choose_range, observe_values
from edgetfm.quantize.recipes import Ranges
from edgetfm.quantize.rounding import Compensation
from edgetfm.quantize.static import round_activations
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.search.evidence import split
from edgetfm.tasks import TASKS
from tests.plain import Exported

INT8 = RECIPES["int8-static"]
A16 = RECIPES["a16w8"]
ALL8 = replace(INT8, scope="all")
RECIPES_HERE = pytest.mark.parametrize("recipe", [INT8, ALL8, A16], ids=["int8", "all8", "a16w8"])

WIDTH, WORDS, PAD = 16, 50, 0
LOWEST = float(np.finfo(np.float32).min)


def encoder(builder: Any, rng: np.random.Generator, sentinel: float = LOWEST) -> ir.Model:
    """One layer of a BERT with one head: attention under an additive mask, then feed-forward."""
    b = builder(input_ids=["n", "s"], attention_mask=["n", "s"])

    def weight(*shape: int, size: float = 0.35) -> Any:
        return (rng.normal(size=shape) * size).astype("f4")

    def norm(x: str, name: str) -> str:
        ones, zeros = np.ones(WIDTH, "f4"), np.zeros(WIDTH, "f4")
        return b("LayerNormalization", x, b.constant(ones), b.constant(zeros), name=name)

    table = weight(WORDS, WIDTH, size=1.0)
    table[PAD] = 60.0 * np.sign(table[PAD])
    x = b("Gather", b.constant(table, "words"), "input_ids", name="embed")
    real = b("Cast", "attention_mask", to=1)
    hidden = b("Sub", b.constant(np.float32(1)), real)
    mask = b("Mul", hidden, b.constant(np.float32(sentinel), "sentinel"))
    mask = b("Unsqueeze", mask, b.constant(np.array([1])), name="mask")
    q, k = (b.linear(x, weight(WIDTH, WIDTH, size=0.12), weight(WIDTH), n) for n in "qk")
    v = b.linear(x, weight(WIDTH, WIDTH), weight(WIDTH), "v")
    scores = b("MatMul", q, b("Transpose", k, perm=[0, 2, 1]), name="scores")
    scores = b("Add", scores, mask, name="masked")
    seen = b("MatMul", b("Softmax", scores, axis=-1, name="look"), v, name="context")
    h = norm(b("Add", b.linear(seen, weight(WIDTH, WIDTH), weight(WIDTH), "out"), x), "norm")
    up = b("Relu", b.linear(h, weight(WIDTH, 32), weight(32), "up"))
    b("Add", b.linear(up, weight(32, WIDTH), weight(WIDTH), "down"), h, name="y")
    return b.model(y=["n", "s", WIDTH])


def batch(rng: np.random.Generator, lengths: tuple[int, ...]) -> dict[str, Any]:
    """Rows of these lengths, padded to the longest."""
    ids = rng.integers(1, WORDS, (len(lengths), max(lengths)))
    mask = np.array([[place < length for place in range(max(lengths))] for length in lengths])
    return {"input_ids": np.where(mask, ids, PAD), "attention_mask": mask.astype(np.int64)}


def ragged(rng: np.random.Generator, count: int = 8) -> list[dict[str, Any]]:
    return [batch(rng, tuple(rng.integers(2, 12, 3))) for _ in range(count)]


def distance(got: Any, wanted: Any, feeds: dict[str, Any]) -> float:
    """The error of the answers at real tokens, relative to the answers."""
    real = feeds["attention_mask"].astype(bool)
    return float(np.linalg.norm(got[real] - wanted[real]) / np.linalg.norm(wanted[real]))


def rounded_to(model: ir.Model, ranges: dict[str, Range], bits: int) -> ir.Model:
    """The graph with these tensors rounded to these ranges, right or wrong."""
    made = model.clone()
    values = {str(v.name): v for node in made.graph for v in node.outputs}
    values |= {str(v.name): v for v in made.graph.inputs}
    edges = [Edge(values[n], tuple(values[n].consumers()), n) for n in ranges]
    round_activations(made, edges, ranges, bits)
    if bits == 16:
        made.opset_imports[""], made.ir_version = 21, 10
    return made


@RECIPES_HERE
def test_it_follows_float_and_its_own_unoptimized_form(
    builder: Any, run: Any, rng: np.random.Generator, tmp_path: Path, recipe: Any
) -> None:
    model = encoder(builder, rng)
    made, facts = quantize_graph(model, recipe, ragged(rng, 20))
    save_graph(made, tmp_path / "made.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "made.onnx"), full_check=True)
    feeds = batch(rng, (9, 3, 12))
    wanted = run(model, **feeds)["y:0"]
    plain, optimized = (run(made, optimize=o, **feeds)["y:0"] for o in (False, True))
    assert distance(plain, wanted, feeds) < (0.01 if recipe is A16 else 0.04)
    assert distance(optimized, plain, feeds) < 1e-3
    assert facts["activation_bits"] == (16 if recipe is A16 else 8)
    assert facts["masks_clamped"] == (["mask:0", "masked:0"] if recipe is A16 else [])


@RECIPES_HERE
def test_the_kernels_answer_what_float_answers_on_the_dequantized_weights(
    builder: Any, run: Any, rng: np.random.Generator, recipe: Any
) -> None:
    """Separates a wrong kernel from honest rounding: only activations are rounded in between."""
    model, feeds = encoder(builder, rng), batch(rng, (9, 3, 12))
    made, _ = quantize_graph(model, recipe, ragged(rng, 20))
    oracle = dequantized(made)
    assert "QuantizeLinear" not in [node.op_type for node in oracle.graph]
    wanted, real = run(oracle, **feeds)["y:0"], run(model, **feeds)["y:0"]
    got = run(made, optimize=True, **feeds)["y:0"]
    assert 0 < distance(got, wanted, feeds) < (1e-3 if recipe is A16 else 0.03)
    assert 0 < distance(wanted, real, feeds) < 0.02


def test_the_operators_are_standard_ones(
    builder: Any, rng: np.random.Generator, ops: Callable[[ir.Model], list[str]]
) -> None:
    for recipe in (INT8, ALL8, A16):
        made, _ = quantize_graph(encoder(builder, rng), recipe, ragged(rng))
        assert {node.domain for node in made.graph} == {""}
        assert {"QuantizeLinear", "DequantizeLinear"} < set(ops(made))
        assert made.opset_imports[""] == (21 if recipe is A16 else 18)


def test_onnxruntime_fuses_every_product(
    builder: Any, rng: np.random.Generator, optimized: Callable[[ir.Model], list[str]]
) -> None:
    made, _ = quantize_graph(encoder(builder, rng), INT8, ragged(rng))
    found = optimized(made)
    assert found.count("MatMulIntegerToFloat") == 6
    assert "DequantizeLinear" not in found


# --- a mask of -3.4e38 --------------------------------------------------------------------------


@pytest.mark.parametrize("sentinel", [LOWEST, -1e9, -1e4, -np.inf])
@RECIPES_HERE
def test_any_mask_works(
    builder: Any, run: Any, rng: np.random.Generator, recipe: Any, sentinel: float
) -> None:
    # 0 * -inf is NaN: masks of -inf come from Where
    made_by_where = np.isinf(sentinel)
    model = masked_by_where(builder, rng) if made_by_where else encoder(builder, rng, sentinel)
    feeds = batch(rng, (3, 12))
    made, _ = quantize_graph(model, recipe, ragged(rng, 20))
    wanted = run(model, **feeds)["y:0"]
    assert distance(run(made, **feeds)["y:0"], wanted, feeds) < 0.04


def masked_by_where(builder: Any, rng: np.random.Generator) -> ir.Model:
    """Attention of embeddings to themselves, -inf where they may not look."""
    b = builder(input_ids=["n", "s"], attention_mask=["n", "s"])
    table = rng.normal(size=(WORDS, WIDTH)).astype("f4")
    x = b("Gather", b.constant(table, "words"), "input_ids", name="embed")
    q = b.linear(x, rng.normal(size=(WIDTH, WIDTH)).astype("f4") * 0.2, None, "q")
    scores = b("MatMul", q, b("Transpose", x, perm=[0, 2, 1]))
    real = b("Unsqueeze", b("Cast", "attention_mask", to=9), b.constant(np.array([1])))
    scores = b("Where", real, scores, b.constant(np.float32(-np.inf)), name="masked")
    b("MatMul", b("Softmax", scores, axis=-1), x, name="y")
    return b.model(y=["n", "s", WIDTH])


@pytest.mark.parametrize("bits", [8, 16])
def test_a_sentinel_in_the_range_makes_all_scores_equal(
    builder: Any, run: Any, rng: np.random.Generator, bits: int
) -> None:
    model, feeds, levels = encoder(builder, rng), batch(rng, (3, 12)), 2**bits - 1
    wanted, real = run(model, **feeds)["y:0"], scores_of(model, run, ragged(rng, 20))
    seen = Histogram()
    seen.add(np.append(real, np.float32(LOWEST)))
    naive = rounded_to(model, {"masked:0": choose_range(seen, "min-max", levels)}, bits)
    assert distance(run(naive, **feeds)["y:0"], wanted, feeds) > 0.3

    low, high = float(real.min()), float(real.max())
    cured = rounded_to(model, {"masked:0": Range(low - MARGIN, high)}, bits)
    assert distance(run(cured, **feeds)["y:0"], wanted, feeds) < (0.03 if bits == 8 else 1e-3)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_range_that_ends_at_the_lowest_real_score_lets_padding_in(
    builder: Any, run: Any, rng: np.random.Generator, bits: int
) -> None:
    """Padding is then as good as the worst real token, and its embedding is huge."""
    model, feeds = encoder(builder, rng), batch(rng, (3, 12))
    wanted, real = run(model, **feeds)["y:0"], scores_of(model, run, ragged(rng, 20))
    naive = rounded_to(model, {"masked:0": Range(float(real.min()), float(real.max()))}, bits)
    shares = {
        name: run(watched(graph, "look:0"), **feeds)["look:0"][0, :3, 3:].max()
        for name, graph in (("naive", naive), ("cured", quantize_graph(model, A16, ragged(rng))[0]))
    }
    assert distance(run(naive, **feeds)["y:0"], wanted, feeds) > 0.03
    assert shares["naive"] > 1e-4
    assert shares["cured"] < 1e-6


def scores_of(model: ir.Model, run: Any, feeds: list[dict[str, Any]]) -> Any:
    """The attention scores of real tokens, in a row."""
    found = []
    for one in feeds:
        scores = run(watched(model, "scores:0"), **one)["scores:0"]
        real = one["attention_mask"].astype(bool)
        found.append(scores[real[:, :, None] & real[:, None, :]])
    return np.concatenate(found)


def watched(model: ir.Model, name: str) -> ir.Model:
    """The graph with one of its tensors as an output too."""
    made = model.clone()
    value = next(v for n in made.graph for v in n.outputs if v.name == name)
    value.type = ir.TensorType(ir.DataType.FLOAT)
    made.graph.outputs.append(value)
    return made


def test_a_mask_that_calibration_never_saw_is_not_rounded_away(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    """Items are cut to their length, so that the mask is all zeros: its range must not be that."""
    model, feeds = encoder(builder, rng), batch(rng, (3, 12))
    wanted, items = run(model, **feeds)["y:0"], ragged(rng)
    seen = observe_values(model, ["mask:0"], items, masked={"mask:0"})["mask:0"]
    assert (seen.low, seen.high) == (0, 0)
    naive = rounded_to(model, {"mask:0": choose_range(seen, "min-max", 65535)}, 16)
    assert distance(run(naive, **feeds)["y:0"], wanted, feeds) > 0.3
    made, facts = quantize_graph(model, A16, items)
    assert "mask:0" in facts["masks_clamped"]
    assert distance(run(made, **feeds)["y:0"], wanted, feeds) < 0.01


# --- ragged batches ------------------------------------------------------------------------------


def test_padding_in_the_statistics_takes_the_steps_of_real_tokens(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    model, items, feeds = encoder(builder, rng), ragged(rng, 20), batch(rng, (9, 3, 12))
    wanted = run(model, **feeds)["y:0"]
    naive = Histogram()
    for one in items:
        naive.add(run(watched(model, "embed:0"), **one)["embed:0"])
    real = observe_values(model, ["embed:0"], items)["embed:0"]
    assert naive.high > 10 * real.high
    errors = [
        distance(
            run(rounded_to(model, {"embed:0": choose_range(seen, "min-max", 255)}, 8), **feeds)[
                "y:0"
            ],
            wanted,
            feeds,
        )
        for seen in (naive, real)
    ]
    assert errors[0] > 0.1
    assert errors[1] < 0.02


def test_the_grid_does_not_depend_on_how_items_are_batched(
    builder: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    """The same rows in one padded batch or alone give the same bytes."""
    model, together = encoder(builder, rng), batch(rng, (2, 9, 5, 7))
    alone = [
        {
            name: a[i : i + 1, : int(together["attention_mask"][i].sum())]
            for name, a in together.items()
        }
        for i in range(4)
    ]
    for name, feeds in (("one", [together]), ("two", alone), ("three", [together])):
        save_graph(quantize_graph(model, A16, feeds)[0], tmp_path / f"{name}.onnx")
    one, two, three = ((tmp_path / f"{n}.onnx").read_bytes() for n in ("one", "two", "three"))
    assert one == two == three


def test_rows_do_not_depend_on_their_neighbours(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    """Unlike dynamic int8: its scale is the batch's, and padding here is huge."""
    model, feeds = encoder(builder, rng), batch(rng, (3, 12))
    one = {name: a[:1, :3] for name, a in feeds.items()}
    drift = {}
    for name, recipe in (("int8", RECIPES["int8"]), ("static", INT8), ("a16w8", A16)):
        made, _ = quantize_graph(model, recipe, ragged(rng, 20))
        together, alone = run(made, **feeds)["y:0"][:1, :3], run(made, **one)["y:0"]
        drift[name] = distance(together, alone, one)
    assert drift["int8"] > 0.05
    assert drift["static"] < 1e-3
    assert drift["a16w8"] < 1e-3


# --- constant activations, channels of zeros, a single sample ------------------------------------


@RECIPES_HERE
@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_constant_activation_works(
    builder: Any, run: Any, rng: np.random.Generator, recipe: Any, value: float
) -> None:
    b = builder(x=["n", WIDTH])
    b.linear(b("Relu", "x"), rng.normal(size=(WIDTH, 8)).astype("f4"), np.ones(8, "f4"), "y")
    b("Relu", "y:0", name="z")
    model = b.model(z=["n", 8])
    x = np.full((6, WIDTH), value, "f4")
    made, _ = quantize_graph(model, recipe, [{"x": x}])
    wanted = run(model, x=x)["z:0"]
    for optimize in (False, True):
        got = run(made, optimize=optimize, x=x)["z:0"]
        assert np.abs(got - wanted).max() <= 0.02 * np.abs(wanted).max()


def test_a_range_from_a_constant_to_itself_has_no_step(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", WIDTH])
    b.linear("x", rng.normal(size=(WIDTH, 8)).astype("f4"), np.ones(8, "f4"), "y")
    model, x = b.model(y=["n", 8]), np.full((6, WIDTH), 3, "f4")
    wanted = run(model, x=x)["y:0"]
    with pytest.raises(ZeroDivisionError):
        Range(3.0, 3.0).grid(255)
    for naive in (Range(3.0, 3.0 + 1e-6), Range(2.9, 3.1)):  # there is no zero in them
        got = run(rounded_to(model, {"x": naive}, 8), x=x)["y:0"]
        assert np.abs(got - wanted).max() > 0.5 * np.abs(wanted).max()
    cured = run(rounded_to(model, {"x": Range.holding(3.0, 3.0)}, 8), x=x)["y:0"]
    assert np.abs(cured - wanted).max() < 0.01 * np.abs(wanted).max()


@RECIPES_HERE
def test_channels_of_zeros_work(
    builder: Any, run: Any, rng: np.random.Generator, recipe: Any
) -> None:
    """One that is zero in all items, one that is zero in the weight, one output that is zero."""
    model, x = with_zeros(builder, rng), rng.normal(size=(40, WIDTH)).astype("f4")
    x[:, 4] = 0
    made, _ = quantize_graph(model, recipe, [{"x": row[None]} for row in x])
    x[:, 4] = 1  # it wakes up
    wanted = run(model, x=x)["y:0"]
    for optimize in (False, True):
        got = run(made, optimize=optimize, x=x)["y:0"]
        assert np.abs(got - wanted).max() < 0.04 * np.abs(wanted).max()
        assert (got[:, 2] == 0).all()


def with_zeros(builder: Any, rng: np.random.Generator) -> ir.Model:
    b = builder(x=["n", WIDTH])
    weight = rng.normal(size=(WIDTH, 8)).astype("f4")
    weight[:, 2] = 0
    weight[9] = 0
    b.linear(b("Identity", "x"), weight, None, "y")
    return b.model(y=["n", 8])


def test_smoothing_by_a_channel_of_zeros_would_make_nan(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    """The formula divides by the largest input and weight of each channel; ours leaves it alone."""
    b = builder(x=["n", WIDTH])
    weight = rng.normal(size=(WIDTH, 8)).astype("f4")
    x = rng.normal(size=(40, WIDTH)).astype("f4")
    x[:, 4] = 0
    with np.errstate(all="ignore"):
        naive = np.abs(x).max(0) ** 0.75 / np.abs(weight).max(1) ** 0.25
        smoothed = b("Mul", "x", b.constant((1 / naive).astype("f4")))
    b.linear(smoothed, (weight * naive[:, None]).astype("f4"), None, "y")
    assert np.isnan(run(b.model(y=["n", 8]), x=x)["y:0"]).all()


@RECIPES_HERE
@pytest.mark.parametrize("ranges", get_args(Ranges))
def test_a_single_sample_works(
    builder: Any, run: Any, rng: np.random.Generator, recipe: Any, ranges: Ranges
) -> None:
    model, feeds = encoder(builder, rng), ragged(rng)
    made, _ = quantize_graph(model, replace(recipe, ranges=ranges), [batch(rng, (12,))])
    losses = [distance(run(made, **one)["y:0"], run(model, **one)["y:0"], one) for one in feeds]
    assert np.mean(losses) < 0.15


def test_a_range_without_headroom_cuts_what_the_next_item_brings(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    model, feeds = encoder(builder, rng), ragged(rng, 20)
    name = "down:0"
    errors = {0.0: [], 0.5: []}  # type: dict[float, list[float]]
    for headroom, found in errors.items():
        for seed in range(8):
            item = batch(np.random.default_rng(seed), (3,))
            seen = observe_values(model, [name], [item])[name]
            chosen = choose_range(seen, "min-max", 255, headroom=headroom)
            made = rounded_to(model, {name: chosen}, 8)
            found += [distance(run(made, **f)["y:0"], run(model, **f)["y:0"], f) for f in feeds[:5]]
    assert np.mean(errors[0.0]) > 2 * np.mean(errors[0.5])


def test_compensation_on_a_single_token_needs_its_damping(rng: np.random.Generator) -> None:
    """The gram of one token has rank 1: without damping it has no inverse."""
    x = rng.normal(size=(1, WIDTH)).astype("f4")
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(x.T @ x)
    weight = rng.normal(size=(WIDTH, 8)).astype("f4")
    rounded = Compensation(x.T @ x, 0.0).round(weight).dequantized()
    assert np.abs(rounded - weight).max() < 0.2 * np.abs(weight).max()


# --- the rest -------------------------------------------------------------------------------------


def test_tails_masks_and_kept_nodes_are_not_rounded(builder: Any, rng: np.random.Generator) -> None:
    b = builder(input_ids=["n", "s"], attention_mask=["n", "s"])
    table = b.constant(rng.normal(size=(WORDS, WIDTH)).astype("f4"), "words")
    x = b("Gather", table, "input_ids", name="embed")
    h = b("Relu", b.linear(x, rng.normal(size=(WIDTH, WIDTH)).astype("f4"), None, "up"), name="h")
    real = b("Unsqueeze", b("Cast", "attention_mask", to=1), b.constant(np.array([2])), name="real")
    total = b("ReduceSum", b("Mul", h, real, name="kept"), b.constant(np.array([1])), name="total")
    b("Div", total, b("ReduceSum", real, b.constant(np.array([1])), name="count"), name="y")
    model = b.model(y=["n", 1, WIDTH])
    names = {e.name for e in all_edges(model, find_masks(model), (), 16)}
    assert names == {"embed:0", "up:0", "h:0"}
    names = {e.name for e in all_edges(model, find_masks(model), ("up",), 16)}
    assert names == {"h:0"}
    made, facts = quantize_graph(model, replace(A16, keep_float=("up",)), ragged(rng))
    assert [entry["node"] for entry in facts["left_in_float"]] == ["up"]
    assert any(node.name == "up" and node.op_type == "MatMul" for node in made.graph)


def test_a_convolution_is_rounded_with_all_activations(
    builder: Any, run: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", 3, 8, 8])
    kernel = b.constant(rng.normal(size=(8, 3, 2, 2)).astype("f4"))
    bias = b.constant(rng.normal(size=8).astype("f4"))
    h = b("Relu", b("Conv", "x", kernel, bias, name="patches", strides=[2, 2]))
    h = b("Transpose", b("Reshape", h, b.constant(np.array([0, 8, 16]))), perm=[0, 2, 1])
    b.linear(h, rng.normal(size=(8, 8)).astype("f4"), name="y")
    model, x = b.model(y=["n", 16, 8]), rng.normal(size=(6, 3, 8, 8)).astype("f4")
    for recipe, bound in ((ALL8, 0.03), (A16, 0.01)):
        made, facts = quantize_graph(model, recipe, [{"x": x}])
        assert facts["left_in_float"] == []
        assert facts["share_of_multiply_accumulates_in_int8"] == 1
        wanted = run(model, x=x)["y:0"]
        for optimize in (False, True):
            got = run(made, optimize=optimize, x=x)["y:0"]
            assert np.linalg.norm(got - wanted) < bound * np.linalg.norm(wanted)


def test_products_that_read_float_constants_are_not_counted_as_int8(
    builder: Any, rng: np.random.Generator
) -> None:
    """One of two constants reads no activation at all, and so none that is not rounded."""
    b = builder(x=["n", 8])
    one, two = (b.constant(rng.normal(size=(8, 8)).astype("f4")) for _ in range(2))
    made = b("MatMul", one, two, name="of_constants")
    h = b.linear("x", rng.normal(size=(8, 8)).astype("f4"), name="up")
    h = b("Gemm", b("Relu", h), one, alpha=2.0, name="scaled")
    b("MatMul", b("Relu", h), made, name="y")
    model, x = b.model(y=["n", 8]), rng.normal(size=(6, 8)).astype("f4")
    for recipe in (ALL8, A16):
        _, facts = quantize_graph(model, recipe, [{"x": x}])
        left = [entry["node"] for entry in facts["left_in_float"]]
        assert left[:2] == ["of_constants", "scaled"]


def test_operators_that_move_keep_the_grid(builder: Any, rng: np.random.Generator) -> None:
    made, _ = quantize_graph(encoder(builder, rng), A16, ragged(rng))
    moves = [n for n in made.graph if n.op_type == "Transpose"]
    for node in moves:
        before, after = node.inputs[0].producer(), node.outputs[0].consumers()[0]  # type: ignore[union-attr]
        assert before is not None
        assert (before.op_type, after.op_type) == ("DequantizeLinear", "QuantizeLinear")
        assert list(before.inputs[1:]) == list(after.inputs[1:])
    assert moves


def test_a_graph_that_no_later_opset_reads_the_same_is_refused(
    builder: Any, rng: np.random.Generator
) -> None:
    b = builder(x=["n", 3, 4, 4])
    scales = b.constant(np.array([1, 1, 2, 2], "f4"))
    b("Resize", b("Relu", "x"), "", scales, name="larger", mode="nearest")
    model, x = b.model(larger=["n", 3, 8, 8]), rng.normal(size=(2, 3, 4, 4)).astype("f4")
    with pytest.raises(InputError, match="need opset 21, the graph has 18 and has larger"):
        quantize_graph(model, A16, [{"x": x}])


def test_nan_in_an_activation_is_refused(builder: Any, rng: np.random.Generator) -> None:
    b = builder(x=["n", 8])
    h = b.linear("x", rng.normal(size=(8, 8)).astype("f4"), name="up")
    b("Relu", b("Mul", h, b.constant(np.float32(3e38)), name="large"), name="y")
    with pytest.raises(DataError, match="item 1 makes NaN or Inf in large"):
        quantize_graph(b.model(y=["n", 8]), A16, [{"x": np.ones((2, 8), "f4") * 9}])


@pytest.mark.parametrize(
    ("model_type", "task"),
    [
        ("mpnet", "feature-extraction"),
        ("roberta", "token-classification"),
        ("deit", "image-classification"),
    ],
)
def test_every_product_of_our_families_reads_16_bits(
    tiny_bundle: Callable[..., Any], run: Any, tmp_path: Path, model_type: str, task: str
) -> None:
    model, fit, judged = every_item(tiny_bundle(model_type, task).bundle, 24)
    made, facts = quantize_graph(model, A16, fit)
    assert len(facts["left_in_float"]) == (model_type == "mpnet")  # its mean over tokens
    assert facts["share_of_multiply_accumulates_in_int8"] > 0.99
    save_graph(made, tmp_path / "made.onnx")
    onnx.checker.check_model(str(tmp_path / "made.onnx"), full_check=True)
    plain, got = (answers_of(tmp_path / "made.onnx", judged, optimize=o) for o in (False, True))
    signature = open_bundle(tiny_bundle(model_type, task).bundle).manifest.components["model"]
    compared = Subject(TASKS[task], signature.signature).compare(got, plain, judged)
    assert not rung("optimized", "graph", compared, bound=DEVICE_BOUNDS["a16w8"]).missed
    if masked := [f for f in judged if not f.get("attention_mask", np.ones(1)).all()]:
        for name in [str(n.outputs[0].name) for n in made.graph if n.op_type == "Softmax"]:
            shares = run(watched(made, name), **masked[0])[name]
            hidden = masked[0]["attention_mask"] == 0
            assert 0 <= shares.transpose(0, 3, 1, 2)[hidden].max() < 1e-6


# --- a real model ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "mean", "worst"), [(INT8, 0.998, 0.99), (A16, 0.9995, 0.9985)], ids=["int8", "a16w8"]
)
def test_a_real_encoder_follows_float_on_texts_it_has_not_seen(
    minilm_bundle: Exported, tmp_path: Path, recipe: Any, mean: float, worst: float
) -> None:
    exported = minilm_bundle
    model, fit, judged = every_item(exported.bundle)
    made, _ = quantize_graph(model, recipe, fit)
    save_graph(made, tmp_path / "made.onnx")
    onnx.checker.check_model(str(tmp_path / "made.onnx"))
    signature = open_bundle(exported.bundle).manifest.components["model"].signature
    subject = Subject(TASKS["feature-extraction"], signature)
    fp32 = answers_of(open_bundle(exported.bundle).path("onnx/model.onnx"), judged)
    plain, got = (answers_of(tmp_path / "made.onnx", judged, optimize=o) for o in (False, True))
    assert not rung(
        "optimized", "graph", subject.compare(got, plain, judged), bound=DEVICE_BOUNDS[recipe.name]
    ).missed
    cosines = np.concatenate(
        [(a[POOLED] * b[POOLED]).sum(1) for a, b in zip(got, fp32, strict=True)]
    )
    assert cosines.mean() > mean
    assert cosines.min() > worst


POOLED = "sentence_embedding"


def every_item(folder: Path, limit: int | None = None) -> tuple[ir.Model, list[Any], list[Any]]:
    """The float graph of a bundle, shipped items to calibrate on, and others to judge by."""
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    signature = manifest.components["model"].signature
    preprocessor = Preprocessor.from_folder(folder, manifest.preprocessing, signature)
    is_text = "tokenizer" in manifest.preprocessing
    encode: Any = preprocessor.texts if is_text else preprocessor.images
    items: Any = read_calibration(None, "text" if is_text else "image").items[:limit]
    fit, judged = ([encode(p[i : i + 4]) for i in range(0, len(p), 4)] for p in split(items))
    return read_graph(bundle.path("onnx/model.onnx")), fit, judged
