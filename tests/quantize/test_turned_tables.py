"""A head in float is multiplied by its table as it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgetfm.graphs import save_graph
from edgetfm.proof import answers_of
from edgetfm.quantize.turned_tables import with_turned_tables
from tests.quantize.test_weight_only import tied


def test_a_head_in_float_is_multiplied_by_the_table(
    builder: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    feeds = {"input_ids": rng.integers(0, 1200, (2, 9))}
    graph = tmp_path / "model.onnx"
    save_graph(tied(builder, rng, 64), graph, external_over=0)
    with with_turned_tables(graph) as fused:
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
    with with_turned_tables(graph) as same:
        assert same == graph
