"""When two graphs of one model differ, the node that is to blame is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.graphs import read_graph, save_graph
from edgetfm.runtime.divergence import first_divergence, relative_error


def chain(path: Path, *, wrong: int | None = None) -> Path:
    """x -> MatMul 0 -> MatMul 1 -> MatMul 2, each by its own weight, one of them wrong."""
    rng = np.random.default_rng(0)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", 4]))
    nodes, values, value = [], [], x
    for i in range(3):
        array = rng.normal(size=(4, 4)).astype(np.float32)
        weight = ir.Value(name=f"w{i}", const_value=ir.tensor(array * (2 if i == wrong else 1)))
        node = ir.Node("", "MatMul", [value, weight], name=f"layers.{i}/MatMul")
        value = node.outputs[0]
        value.name, value.dtype = f"layers.{i}/MatMul:0", ir.DataType.FLOAT
        value.shape = ir.Shape(["n", 4])
        nodes.append(node)
        values.append(weight)
    graph = ir.Graph([x], [value], nodes=nodes, initializers=values, opset_imports={"": 17})
    save_graph(ir.Model(graph, ir_version=8), path)
    return path


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_the_first_node_that_differs_is_named(tmp_path: Path, wrong: int) -> None:
    right, other = chain(tmp_path / "a.onnx"), chain(tmp_path / "b.onnx", wrong=wrong)
    feeds = {"x": np.ones((2, 4), np.float32)}
    found = first_divergence(right, other, feeds, limit=1e-4)
    assert found is not None
    assert found.node == f"layers.{wrong}/MatMul"
    assert found.error == pytest.approx(1.0, abs=1e-5)
    assert str(found).startswith(f"the first node that diverges is layers.{wrong}/MatMul")


def test_equal_graphs_do_not_diverge_and_stay_as_they_are(tmp_path: Path) -> None:
    path = chain(tmp_path / "a.onnx")
    before = path.read_bytes()
    assert first_divergence(path, path, {"x": np.ones((1, 4), np.float32)}, limit=1e-6) is None
    assert path.read_bytes() == before
    assert len(read_graph(path).graph.outputs) == 1


def test_a_value_that_is_not_finite_is_infinitely_wrong() -> None:
    ones = np.ones(3, np.float32)
    assert relative_error(ones * np.nan, ones) == float("inf")
    assert relative_error(ones[:2], ones) == float("inf")
    assert relative_error(ones, ones) == 0.0
