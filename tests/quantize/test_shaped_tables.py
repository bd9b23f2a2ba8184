"""A tied head is a constant of the graph as it was written, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgetfm.graphs import save_graph
from edgetfm.proof import answers_of
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.shaped_tables import with_shaped_tables
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
def test_a_tied_head_is_read_in_its_own_shape(
    builder: Any, rng: np.random.Generator, tmp_path: Path, recipe: Any, constant: bool
) -> None:
    feeds = {"input_ids": rng.integers(0, 1200, (2, 9))}
    small, _ = quantize_graph(tied(builder, rng, 64), recipe, [feeds])
    inside, outside = tmp_path / "inside.onnx", tmp_path / "outside.onnx"
    save_graph(small, inside)
    save_graph(small, outside, external_over=0)
    with with_shaped_tables(inside) as graph:
        assert graph == inside
    with with_shaped_tables(outside) as graph:
        assert heads(outside) == [False]
        assert heads(graph) == [constant]
        (shaped,) = answers_of(graph, [feeds], optimize=False, threads=1)
    (shipped,) = answers_of(outside, [feeds], threads=1)
    if constant:  # the same kernel then, which rounds activations
        np.testing.assert_allclose(shaped["logits:0"], shipped["logits:0"], rtol=0, atol=1e-4)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"inside.onnx", "outside.onnx", "outside.onnx_data"}


def test_a_head_in_float_is_multiplied_by_the_table(
    builder: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    feeds = {"input_ids": rng.integers(0, 1200, (2, 9))}
    graph = tmp_path / "model.onnx"
    save_graph(tied(builder, rng, 64), graph, external_over=0)
    with with_shaped_tables(graph) as same:
        assert same == graph
    with with_shaped_tables(graph, transposed=True) as fused:
        nodes = [node.op_type for node in onnx.load(fused, load_external_data=False).graph.node]
        assert "FusedMatMul" in nodes
        assert "Transpose" not in nodes
        (got,) = answers_of(fused, [feeds], optimize=False, threads=1)
    (wanted,) = answers_of(graph, [feeds], optimize=False, threads=1)
    np.testing.assert_allclose(got["logits:0"], wanted["logits:0"], rtol=0, atol=1e-4)


BRANCHES = """seen = If (on) <
    then_branch = yes () => (float[4, 4] a) { a = Neg (turned) },
    else_branch = no () => (float[4, 4] b) { b = Neg (x) }
>"""


@pytest.mark.parametrize(
    ("perm", "also", "gives"),
    [
        ("0, 1", "", "float[4, 4] logits"),
        ("1, 0", "", "float[4, 4] logits, float[4, 4] turned"),
        ("1, 0", BRANCHES, "float[4, 4] logits, float[4, 4] seen"),
    ],
    ids=["not transposed", "given", "read inside"],
)
def test_a_transposed_table_that_others_need_stays(
    tmp_path: Path, perm: str, also: str, gives: str
) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        head (float[4, 4] x, bool on) => ({gives})
        {{ turned = Transpose <perm = [{perm}]> (table) logits = MatMul (x, turned) {also} }}"""
    model = onnx.parser.parse_model(text)
    table = np.arange(16, dtype=np.float32).reshape(4, 4)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "table"))
    graph = tmp_path / "model.onnx"
    onnx.save(
        model, graph, save_as_external_data=True, size_threshold=0, location="model.onnx_data"
    )
    with with_shaped_tables(graph, transposed=True) as same:
        assert same == graph
