"""`export` takes ONNX files and Optimum's folders as it takes PyTorch models."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm.errors import InputError, OutputError
from edgetfm.runtime.model import load
from edgetfm.workflow.build import open_model
from edgetfm.workflow.export import export_model

FEEDS = {
    "input_ids": np.array([[2, 9, 11, 30, 3], [2, 17, 3, 0, 0]], np.int64),
    "attention_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int64),
    "token_type_ids": np.zeros((2, 5), np.int64),
}
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture
def optimum(tiny_bundle: Callable[..., Any], tmp_path: Path) -> Path:
    """A folder as Optimum writes it: model.onnx beside a config and a tokenizer."""
    made = tiny_bundle("bert", "text-classification")
    folder = tmp_path / "optimum"
    folder.mkdir()
    shutil.copy(made.bundle / "onnx" / "model.onnx", folder / "model.onnx")
    for name in BESIDE:
        shutil.copy(made.source / name, folder / name)
    return folder


@pytest.mark.parametrize("inner", ["", pytest.param("onnx", marks=pytest.mark.slow)])
def test_an_optimum_folder_is_exported_with_itself_as_the_oracle(
    optimum: Path, tmp_path: Path, inner: str
) -> None:
    if inner:
        (optimum / inner).mkdir()
        (optimum / "model.onnx").rename(optimum / inner / "model.onnx")
    before = load_file(optimum / inner / "model.onnx")
    result = export_model(optimum, tmp_path / "bundle")
    assert (result.task, result.route, result.variant) == ("text-classification", "onnx", "fp32")
    assert result.ledger.passed
    assert result.ledger.rungs[0].against == "the ONNX file"
    model = load(tmp_path / "bundle")
    assert np.abs(model.run(FEEDS)["logits"] - before["logits"]).max() < 1e-5
    assert (tmp_path / "bundle" / "tokenizer.json").is_file()


def load_file(path: Path) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, FEEDS), strict=True))


def test_a_folder_with_weights_and_graphs_is_read_from_its_weights(
    optimum: Path, tiny_bundle: Callable[..., Any]
) -> None:
    assert open_model(optimum).route == "onnx"
    source = tiny_bundle("bert", "text-classification").source
    shutil.copy(source / "model.safetensors", optimum / "model.safetensors")
    assert open_model(optimum).route == "native"
    assert open_model(optimum / "model.onnx").route == "onnx"


def test_which_graph_of_several_is_a_rule_or_a_question(optimum: Path) -> None:
    (optimum / "model_quantized.onnx").write_bytes((optimum / "model.onnx").read_bytes())
    opened = open_model(optimum)
    assert opened.path == optimum / "model.onnx"
    assert "not model_quantized.onnx" in opened.notes[0]
    (optimum / "model.onnx").rename(optimum / "model_O2.onnx")
    with pytest.raises(InputError, match=r"of its graphs: model_O2\.onnx, model_quantized"):
        open_model(optimum)
    assert open_model(optimum / "model_O2.onnx").task == "text-classification"


@pytest.mark.parametrize("inner", ["", "onnx"])
def test_the_parts_of_an_encoder_decoder_are_refused(optimum: Path, inner: str) -> None:
    (optimum / inner).mkdir(exist_ok=True)
    graph = optimum / "model.onnx"
    for name in ("encoder_model", "decoder_model", "decoder_with_past_model"):
        shutil.copy(graph, optimum / inner / f"{name}.onnx")
    graph.unlink()
    with pytest.raises(InputError, match=r"an encoder-decoder in parts .*give the PyTorch model"):
        open_model(optimum)


def test_options_without_a_meaning_and_bundles_are_refused(
    optimum: Path, tmp_path: Path, tiny_bundle: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match="is an ONNX file: leave out --inputs and --route"):
        open_model(optimum, inputs="a:b", route="native")
    with pytest.raises(InputError, match="is a bundle already: edgetfm quantize"):
        open_model(tiny_bundle("bert", "text-classification").bundle)
    with pytest.raises(OutputError, match="which it would replace"):
        export_model(optimum / "model.onnx", optimum, force=True)
