"""A table in blocks that is the head too: two shapes of one weight, whose bytes lie there once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgetfm.graphs import read_graph, save_graph
from edgetfm.proof import answers_of
from edgetfm.quantize import RECIPES, quantize_graph
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
