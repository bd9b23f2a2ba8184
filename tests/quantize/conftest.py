"""Small graphs made by hand for the passes, and a way to run any graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetfm.graphs import read_graph, save_graph
from edgetfm.runtime._ort import ort
from edgetfm.runtime.session import make_session
from edgetfm.signature import Array, Feeds

Run = Callable[..., Feeds]


class Builder:
    """Nodes one after the other; every method gives the name of a tensor."""

    def __init__(self, **inputs: list[int | str]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs = [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name.endswith(("ids", "mask")) else TensorProto.FLOAT, s
            )
            for name, s in inputs.items()
        ]

    def constant(self, array: Array, name: str = "") -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def __call__(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}:0"], name=name, **attributes))
        return f"{name}:0"

    def split(self, x: str, axis: int, parts: int) -> list[str]:
        names = [f"Split_{len(self.nodes)}:{i}" for i in range(parts)]
        size = helper.make_node("Split", [x], names, axis=axis, num_outputs=parts)
        self.nodes.append(size)
        return names

    def linear(self, x: str, weight: Array, bias: Array | None = None, name: str = "") -> str:
        name = name or f"linear_{len(self.nodes)}"
        y = self("MatMul", x, self.constant(weight, f"{name}.weight"), name=name)
        if bias is None:
            return y
        return self("Add", y, self.constant(bias, f"{name}.bias"), name=f"{name}_add")

    def model(self, **outputs: list[int | str]) -> ir.Model:
        """The model; `outputs` are tensor name (':0' left out) -> shape."""
        made = [
            helper.make_tensor_value_info(f"{name}:0", TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "graph", self.inputs, made, self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(proto, full_check=True)
        return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


@pytest.fixture
def builder() -> type[Builder]:
    """Builder(x=["batch", 8]): a graph made node by node."""
    return Builder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run(model, **feeds): the outputs of a graph in onnxruntime, as it was written."""
    count = 0

    def execute(model: ir.Model, *, optimize: bool = False, **feeds: Array) -> Feeds:
        nonlocal count
        count += 1
        path = tmp_path / f"{count}.onnx"
        save_graph(model, path)
        return make_session(path, threads=1, optimize=optimize).run(feeds)

    return execute


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers at every run."""
    return np.random.default_rng(0)


def operators(model: ir.Model) -> list[str]:
    """The operators of a graph in order."""
    return [node.op_type for node in model.graph]


@pytest.fixture
def ops() -> Callable[[ir.Model], list[str]]:
    """ops(model): its operators in order."""
    return operators


@pytest.fixture
def optimized(tmp_path: Path) -> Callable[[ir.Model], list[str]]:
    """optimized(model): its operators after onnxruntime's own rewriting."""

    def rewritten(model: ir.Model) -> list[str]:
        before, after = tmp_path / "plain.onnx", tmp_path / "optimized.onnx"
        save_graph(model, before)
        options = ort().SessionOptions()
        options.optimized_model_filepath = str(after)
        options.log_severity_level = 4
        ort().InferenceSession(str(before), options, providers=["CPUExecutionProvider"])
        return operators(read_graph(after))

    return rewritten
