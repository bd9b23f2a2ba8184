"""What every exported graph is like, whatever the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgetfm.errors import ParityError
from edgetfm.export import to_onnx
from edgetfm.graphs import save_graph
from edgetfm.signature import TensorSpec
from edgetfm.sources import Source, open_source


@pytest.fixture(scope="module")
def source(tiny_hf: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Source:
    return open_source(tiny_hf("bert", "fill-mask", tmp_path_factory.mktemp("hf") / "secret-place"))


@pytest.fixture(scope="module")
def graph(source: Source) -> ir.Model:
    return to_onnx(source.module(), source.signature.inputs, source.signature.outputs)


@pytest.fixture(scope="module")
def file(graph: ir.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    save_graph(graph, path)
    return path


def test_onnx_checks_it_and_infers_every_shape(file: Path) -> None:
    onnx.checker.check_model(str(file), full_check=True)


def test_axes_are_free_and_named_as_in_the_signature(graph: ir.Model, source: Source) -> None:
    for values, specs in (
        (graph.graph.inputs, source.signature.inputs),
        (graph.graph.outputs, source.signature.outputs),
    ):
        found = []
        for value in values:
            assert value.dtype is not None
            assert value.shape is not None
            shape = tuple(a if isinstance(a, int) else a.value for a in value.shape)
            found.append(TensorSpec(str(value.name), value.dtype.numpy().name, shape))
        assert tuple(found) == specs


def test_older_runtimes_can_read_it(graph: ir.Model) -> None:
    assert (graph.graph.opset_imports, graph.ir_version) == ({"": 17}, 8)
    assert {n.domain for n in graph.graph} == {""}


def test_linear_layers_are_a_product_with_a_constant_and_an_addition(graph: ir.Model) -> None:
    constant = [
        n
        for n in graph.graph
        if n.op_type == "MatMul" and n.inputs[1] is not None and n.inputs[1].is_initializer()
    ]
    names = [str(n.name) for n in constant]
    per_layer = ("attention.qkv", "attention.out", "feed_forward.up", "feed_forward.down")
    assert names == [
        *(f"layers.{i}.{part}/MatMul" for i in range(2) for part in per_layer),
        "decoder.dense/MatMul",
    ]
    for node in constant:
        (use,) = node.outputs[0].consumers()
        assert use.op_type == "Add"
    assert not Counter(n.op_type for n in graph.graph).keys() & {"Gemm", "Einsum", "Identity"}


def test_shapes_are_not_computed_at_run_time(graph: ir.Model) -> None:
    for node in graph.graph:
        if node.op_type == "Reshape":
            assert node.inputs[1] is not None
            assert node.inputs[1].is_initializer(), node


def test_a_tied_decoder_is_stored_once(graph: ir.Model, source: Source) -> None:
    c = source.config
    tables = [
        name
        for name, v in graph.graph.initializers.items()
        if v.const_value is not None and v.const_value.size == c.vocabulary * c.width
    ]
    assert tables == ["embeddings.words.weight"]


def test_runtimes_fuse_gelu_and_move_transposes_into_products(file: Path, tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    ops = Counter(n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert ops["Erf"] == 0
    assert ops["BiasGelu"] == 3  # two layers and the decoder
    assert ops["FusedMatMul"] == 4


def test_the_same_source_gives_the_same_bytes_and_they_tell_nothing_of_this_machine(
    source: Source, file: Path, tmp_path: Path
) -> None:
    again = to_onnx(source.module(), source.signature.inputs, source.signature.outputs)
    save_graph(again, tmp_path / "again.onnx")
    data = file.read_bytes()
    assert (tmp_path / "again.onnx").read_bytes() == data
    assert not re.search(rb"secret-place|site-packages|\.py\b|/tmp/|torch", data)


class Doubler(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": x * 2}


def test_progress_is_told_to_the_end() -> None:
    told: list[tuple[str, int, int]] = []
    x, y = (TensorSpec(name, "float32", ("batch", 3)) for name in "xy")
    to_onnx(Doubler(), (x,), (y,), progress=lambda *step: told.append(step))
    assert told[0][:2] == ("tracing", 0)
    assert told[-1][1] == told[-1][2]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (TensorSpec("y", "float32", ("batch", 4)), "shape"),
        (TensorSpec("y", "float32", (2, 3)), "shape"),
        (TensorSpec("y", "float16", ("batch", 3)), "float16"),
        (TensorSpec("y", "float32", ("batch",)), "shape"),
    ],
)
def test_a_graph_that_is_not_what_was_said_is_refused(output: Any, words: str) -> None:
    with pytest.raises(ParityError, match=words):
        to_onnx(Doubler(), (TensorSpec("x", "float32", ("batch", 3)),), (output,))
