from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetfm.errors import InputError
from edgetfm.graphs import save_graph
from edgetfm.quantize import opset


def graph(declared: int) -> ir.Model:
    """Split and ReduceMean as opset 13 writes them."""
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1, name="split"),
        helper.make_node("ReduceMean", ["a"], ["m"], axes=[1], keepdims=1, name="mean"),
        helper.make_node("Add", ["b", "m"], ["s"], name="sum"),
        helper.make_node("Add", ["s", "one"], ["y"], name="last"),
    ]
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", size])
        for n, size in (("x", 8), ("y", 4))
    )
    one = numpy_helper.from_array(np.float32(1), "one")
    made = helper.make_graph(nodes, "graph", [x], [y], [one])
    return ir.from_proto(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", declared)], ir_version=8)
    )


def test_the_graph_means_the_same(run: Any, rng: np.random.Generator, tmp_path: Path) -> None:
    x = rng.normal(size=(5, 8)).astype("f4")
    wanted = run(graph(13), x=x)["y"]
    made, changed = opset.run(graph(13))
    assert changed
    save_graph(made, tmp_path / "made.onnx")
    onnx.checker.check_model(str(tmp_path / "made.onnx"), full_check=True)
    assert (made.opset_imports[""], made.ir_version) == (21, 10)
    assert (run(made, x=x)["y"] == wanted).all()
    assert not opset.run(made)[1]


def test_older_graphs_are_refused() -> None:
    with pytest.raises(InputError, match="the graph has 12 and is older than opset 13"):
        opset.run(graph(12))
