"""Weights that wait on disk are the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.serde import TensorProtoTensor

from edgetfm.graphs import read_graph, save_graph
from edgetfm.quantize.spool import spool_weights, spooled


def test_a_parsed_graph_keeps_its_values_and_not_its_file(
    builder: Any, run: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    b = builder(x=["n", 8])
    hidden = b.linear("x", rng.normal(size=(8, 200_000)).astype("f4"))
    one = onnx.numpy_helper.from_array(np.ones(1, "f4"))
    b("Add", b.linear(hidden, rng.normal(size=(200_000, 2)).astype("f4")), b("Constant", value=one),
      name="y")  # fmt: skip
    path = tmp_path / "a.onnx"
    save_graph(b.model(y=["n", 2]), path)
    model = read_graph(path)
    x = rng.normal(size=(3, 8)).astype("f4")
    before = run(model, x=x)["y:0"]
    spool_weights(model)
    tensors = [v.const_value for v in model.graph.initializers.values()]
    tensors += [
        a.as_tensor()
        for node in model.graph
        for a in node.attributes.values()
        if a.type == ir.AttributeType.TENSOR
    ]
    assert len(tensors) == 3
    assert not any(isinstance(t, TensorProtoTensor) for t in tensors)
    large = [t.numpy() for t in tensors if t is not None and t.nbytes > 1 << 20]
    assert [isinstance(a, np.memmap) for a in large] == [True, True]
    np.testing.assert_array_equal(run(model, x=x)["y:0"], before)


def test_only_large_arrays_go_to_disk(rng: np.random.Generator) -> None:
    large, small = rng.random((512, 512)), rng.random((8, 8))
    assert spooled(small) is small
    assert isinstance(spooled(large), np.memmap)
    np.testing.assert_array_equal(spooled(large), large)
