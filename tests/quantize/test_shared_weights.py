"""A table in blocks that is the head too: two shapes of one weight, whose bytes lie there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgetfm.graphs import read_graph, save_graph
from edgetfm.proof import answers_of
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.linear import CONTRIB
from edgetfm.signature import Feeds
from tests.quantize.test_weight_only import tied

FOUR = replace(RECIPES["int4"], table_bits=4, block_size=64)


def heads(path: Path) -> list[bool]:
    """Of each product in blocks, whether its steps are a constant."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [n.input[1] in constants for n in graph.node if n.op_type == "MatMulNBits"]


@pytest.mark.parametrize(
    ("recipe", "constant"),
    [(FOUR, True), (RECIPES["int8-weight"], False)],  # whose scales are expanded, too
    ids=["int4", "int8-weight"],
)
def test_a_tied_head_is_a_constant_where_weights_lie_in_a_file(
    builder: Any, rng: np.random.Generator, tmp_path: Path, recipe: Any, constant: bool
) -> None:
    feeds = {"input_ids": rng.integers(0, 1200, (2, 9))}
    small, _ = quantize_graph(tied(builder, rng, 64), recipe, [feeds])
    inside, outside = tmp_path / "inside.onnx", tmp_path / "outside.onnx"
    save_graph(small, inside)
    save_graph(small, outside, external_over=0)
    assert (heads(inside), heads(outside)) == ([False], [constant])
    (one,) = answers_of(inside, [feeds], threads=1)
    (two,) = answers_of(outside, [feeds], threads=1)
    np.testing.assert_array_equal(two["logits:0"], one["logits:0"])
    if constant:  # also without the optimizer the kernel is the one that rounds activations
        (two,) = answers_of(outside, [feeds], optimize=False, threads=1)
        np.testing.assert_allclose(two["logits:0"], one["logits:0"], rtol=0, atol=1e-4)


def test_its_bytes_are_stored_once_however_often_it_is_written_again(
    builder: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    feeds = {"input_ids": rng.integers(0, 1200, (2, 9))}
    small, _ = quantize_graph(tied(builder, rng, 64), FOUR, [feeds])
    first, again, inside = (tmp_path / f"{name}.onnx" for name in ("first", "again", "inside"))
    save_graph(small, first, external_over=0)
    save_graph(read_graph(first), again, external_over=0)
    save_graph(read_graph(again), inside)
    table = 1200 * 64 // 2
    sizes = [Path(f"{path}_data").stat().st_size for path in (first, again)]
    assert sizes[0] == sizes[1] < 1.5 * table
    answers = [answers_of(path, [feeds], threads=1)[0] for path in (first, again, inside)]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer["logits:0"], answers[0]["logits:0"])


def reshaped(rng: np.random.Generator, shape: Sequence[int]) -> onnx.ModelProto:
    """A product by a table of 64 rows in 8 blocks, as others write it: reshaped to `shape`."""
    product = {"K": 256, "N": 64, "bits": 4, "block_size": 32}
    weights = {
        "table": rng.integers(0, 256, (64, 128), dtype=np.uint8),
        "shape": np.array(shape, np.int64),
        "scales": rng.random(64 * 8, np.float32),
    }
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Reshape", ["table", "shape"], ["blocks"]),
            onnx.helper.make_node(
                "MatMulNBits", ["x", "blocks", "scales"], ["y"], domain=CONTRIB, **product
            ),
        ],
        "reshaped",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 256])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 64])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    domains = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid(CONTRIB, 1)]
    return onnx.helper.make_model(graph, opset_imports=domains, ir_version=10)


@pytest.mark.parametrize("shape", [(64, 8, 16), (-1, 8, 16), (0, 8, -1)], ids=str)
def test_a_shape_that_is_to_be_found_out_stays_a_reshape(
    rng: np.random.Generator, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    given, written = tmp_path / "given.onnx", tmp_path / "written.onnx"
    onnx.save(reshaped(rng, shape), given)
    save_graph(read_graph(given), written, external_over=0)
    feeds = {"x": rng.normal(size=(1, 256)).astype(np.float32)}
    one, two = (answers_of(path, [feeds], threads=1)[0]["y"] for path in (given, written))
    np.testing.assert_array_equal(one, two)
    assert heads(written) == [min(shape) > 0]


def test_a_table_that_may_be_given_for_a_call_is_not_shared(
    rng: np.random.Generator, tmp_path: Path
) -> None:
    model = reshaped(rng, (64, 8, 16))
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("table", onnx.TensorProto.UINT8, [64, 128])
    )
    given, written = tmp_path / "given.onnx", tmp_path / "written.onnx"
    onnx.save(model, given)
    save_graph(read_graph(given), written, external_over=0)
    feeds: Feeds = {
        "x": rng.normal(size=(1, 256)).astype(np.float32),
        "table": rng.integers(0, 256, (64, 128), dtype=np.uint8),
    }
    one, two = (answers_of(path, [feeds], threads=1)[0]["y"] for path in (given, written))
    np.testing.assert_array_equal(one, two)
