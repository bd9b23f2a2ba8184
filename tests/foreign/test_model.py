"""ONNX files made elsewhere: read, quantized inside the budget, verified, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgetfm import load, pipeline, quantize_bundle, samples, verify_bundle
from edgetfm.bundle import open_bundle
from edgetfm.errors import DataError, InputError, OutputError, SourceError
from edgetfm.export.to_onnx import quiet_torch
from edgetfm.foreign.files import is_foreign
from edgetfm.foreign.model import open_foreign
from edgetfm.quantize.items import Whole, items
from edgetfm.runtime import tuning
from edgetfm.runtime.bench import bench
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.runtime.session import make_session
from edgetfm.workflow.inspect import inspect_bundle
from edgetfm.workflow.made import ExportResult

EXPORTERS = (pytest.param(True, id="dynamo"), pytest.param(False, id="torchscript"))


@pytest.fixture(scope="module", autouse=True)
def short_rounds() -> Iterator[None]:
    """How fast these models are is not asked here: latency is measured in short rounds."""
    with mock.patch.dict(tuning.interleaved.__kwdefaults__, seconds=0.004):
        yield


class Named(nn.Module):
    """A transformers model that takes its inputs in order and gives its tensors in order."""

    def __init__(self, model: nn.Module, inputs: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(self, *arrays: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answer = self.model(**dict(zip(self.inputs, arrays, strict=True)))
        return tuple(answer[name] for name in self.outputs)


def export_text_model(
    folder: Path, auto: str, target: Path, *, dynamo: bool, free: bool = True
) -> None:
    """A Hugging Face text model as plain torch.onnx.export writes it: no edgetfm in sight."""
    import transformers

    model = getattr(transformers, auto).from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.randint(5, 40, (2, 9))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    inputs["attention_mask"][1, 6:] = 0
    if not free:
        inputs = {name: array[:1] for name, array in inputs.items()}
    outputs = [n for n, t in model(**inputs).items() if isinstance(t, torch.Tensor)]
    axes: Any = {n: {0: "batch", 1: "tokens"} for n in inputs} if free else None
    if dynamo:
        dim = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
        options: Any = {"dynamic_shapes": {"arrays": tuple(dim for _ in inputs)} if free else None}
    else:
        options = {"dynamic_axes": axes}
    with quiet_torch(), torch.no_grad():
        torch.onnx.export(
            Named(model, list(inputs), outputs),
            tuple(inputs.values()),
            str(target),
            input_names=list(inputs),
            output_names=outputs,
            dynamo=dynamo,
            **({"verbose": False} if dynamo else {"opset_version": 14}),
            **options,
        )


AUTO = {
    "feature-extraction": "AutoModel",
    "text-classification": "AutoModelForSequenceClassification",
    "fill-mask": "AutoModelForMaskedLM",
}


@pytest.fixture(scope="module")
def optimum_like(
    tiny_hf: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """optimum_like(type, task, dynamo): a folder with onnx/model.onnx, a config and a tokenizer."""
    made: dict[Any, Path] = {}

    def get(model_type: str, task: str, *, dynamo: bool, **options: Any) -> Path:
        key = (model_type, task, dynamo, repr(options))
        if key not in made:
            folder = tmp_path_factory.mktemp("optimum")
            source = tiny_hf(model_type, task, folder / "source")
            target = folder / "model"
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.safetensors"))
            (target / "onnx").mkdir()
            graph = target / "onnx" / "model.onnx"
            export_text_model(source, AUTO[task], graph, dynamo=dynamo, **options)
            made[key] = target
        return made[key]

    return get


def encoder_layers(batch_first: bool = True) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        32, 4, 64, batch_first=batch_first, activation="gelu", dropout=0.0
    )
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()


@pytest.fixture(scope="module")
def plain_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nn.TransformerEncoder, as nobody's exporter but torch's own knows it."""
    path = tmp_path_factory.mktemp("plain") / "encoder.onnx"
    with quiet_torch(), torch.no_grad():
        torch.onnx.export(
            encoder_layers(),
            (torch.randn(2, 7, 32),),
            str(path),
            input_names=["x"],
            output_names=["y"],
            dynamo=True,
            verbose=False,
            dynamic_shapes={"src": {0: torch.export.Dim("n"), 1: torch.export.Dim("time")}},
        )
    return path


@pytest.fixture(scope="module")
def few_texts(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough to calibrate tiny models on."""
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    halves = [" ".join(t.split()[i::2]) for t in texts for i in (0, 1)]
    path.write_text("\n".join([*texts, *halves]))
    return path


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arrays") / "items.npz"
    x = np.random.default_rng(0).standard_normal((24, 6, 32)).astype(np.float32)
    np.savez(path, x=x)
    return path


@pytest.fixture(scope="module")
def array_bundle(
    plain_encoder: Path, arrays: Path, tmp_path_factory: pytest.TempPathFactory
) -> ExportResult:
    """The plain encoder in int8, calibrated on arrays."""
    target = tmp_path_factory.mktemp("bundle") / "bundle"
    return quantize_bundle(plain_encoder, target, quantize="int8", calibration=arrays)


# --- what is read -------------------------------------------------------------------------------


def test_a_graph_a_folder_with_one_and_no_bundle_is_foreign(
    plain_encoder: Path, array_bundle: ExportResult, tmp_path: Path
) -> None:
    assert is_foreign(plain_encoder)
    assert is_foreign(plain_encoder.parent)
    assert is_foreign("missing.onnx")
    assert not is_foreign(tmp_path)
    assert not is_foreign(array_bundle.path)


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_the_config_names_the_task_and_the_tokenizer_makes_the_inputs(
    optimum_like: Callable[..., Path], dynamo: bool
) -> None:
    folder = optimum_like("distilbert", "text-classification", dynamo=dynamo)
    opened = open_foreign(folder)
    assert (opened.task, opened.family, len(opened.labels)) == (
        "text-classification",
        "distilbert",
        3,
    )
    assert [t.shape for t in opened.signature.inputs] == [("batch", "sequence")] * 2
    (logits,) = opened.signature.outputs
    assert (logits.name, logits.shape) == ("logits", ("batch", 3))
    assert opened.preprocessing["tokenizer"]["max_length"] == 64
    assert opened.provenance["kind"] == "onnx"
    assert "model.onnx" in opened.provenance["sha256"]


def test_outputs_that_do_no_known_task_are_compared_as_they_are(
    optimum_like: Callable[..., Path],
) -> None:
    folder = optimum_like("distilbert", "feature-extraction", dynamo=False)
    opened = open_foreign(folder)
    assert opened.task == "other"
    (output,) = opened.subject.task.outputs
    assert (output.name, output.per_token) == ("last_hidden_state", True)
    with pytest.raises(InputError, match=r"does not do fill-mask:\n[\s\S]+leave --task out"):
        open_foreign(folder, task="fill-mask")


def test_axes_are_what_the_graph_gives_not_what_its_file_calls_them(plain_encoder: Path) -> None:
    signature = open_foreign(plain_encoder).signature
    assert [str(t) for t in signature.inputs] == ["x: float32[batch, time, 32]"]
    assert [str(t) for t in signature.outputs] == ["y: float32[batch, time, 32]"]


# --- from a file to a proven bundle -------------------------------------------------------------


@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_text_models_of_both_exporters_become_int8_inside_the_budget(
    optimum_like: Callable[..., Path], few_texts: Path, dynamo: bool, tmp_path: Path
) -> None:
    folder = optimum_like("distilbert", "text-classification", dynamo=dynamo)
    result = quantize_bundle(
        folder, tmp_path / "bundle", quantize="int8", calibration=few_texts, max_drop="cosine:0.99"
    )
    assert (result.route, result.variant, result.ledger.passed) == ("onnx", "int8", True)
    oracles = {r.against for r in result.ledger.rungs if r.name in ("fp32 graph", "int8")}
    assert oracles == {"the ONNX file"}
    facts = next(t for t in result.tried if t["precision"] == "int8")["facts"]
    assert facts["matrix_products_in_int8"] == 14  # six a layer, two of the head
    assert {n["reason"] for n in facts["left_in_float"]} == {"both inputs are activations"}
    assert verify_bundle(result.path).passed
    (answer,) = pipeline(result.path)("It failed twice, then ran for eleven hours.")
    assert answer["label"] in ("bad", "fair", "good")


def test_an_encoder_of_arrays_becomes_int8_inside_the_budget(
    array_bundle: ExportResult, plain_encoder: Path
) -> None:
    result, target = array_bundle, array_bundle.path
    assert (result.task, result.family, result.variant) == ("other", "onnx", "int8")
    assert result.ledger.passed
    again = verify_bundle(target, reference=plain_encoder)
    assert again.passed
    assert again.rungs[-1].against.startswith("the ONNX file (")
    manifest = open_bundle(target).manifest
    assert manifest.calibration["count"] == 24
    assert manifest.source["kind"] == "onnx"
    assert list(manifest.components["model"].variants) == ["int8"]
    x = np.random.default_rng(1).standard_normal((3, 5, 32)).astype(np.float32)
    wanted = encoder_layers()(torch.from_numpy(x)).detach().numpy()
    got = load(target).run(x=x)["y"]
    assert np.abs(got - wanted).max() < 0.05
    assert np.abs(got - wanted).max() > 0.0


def test_people_are_told_that_a_bundle_takes_arrays(array_bundle: ExportResult) -> None:
    with pytest.raises(InputError, match=r"takes arrays.*load\(.*x: float32\[batch, time, 32\]"):
        pipeline(array_bundle.path)


def test_a_bundle_of_arrays_is_timed_and_described(array_bundle: ExportResult) -> None:
    measured = bench(array_bundle.path, batch=2, sequence=5, runs=3, memory=False)
    assert measured["latency_ms"]["p50"] > 0
    assert inspect_bundle(array_bundle.path)["source"]["kind"] == "onnx"


def test_a_graph_of_fixed_sizes_is_asked_for_no_others(
    optimum_like: Callable[..., Path], few_texts: Path, tmp_path: Path
) -> None:
    folder = optimum_like("distilbert", "text-classification", dynamo=False, free=False)
    signature = open_foreign(folder).signature
    assert [t.shape for t in signature.inputs] == [(1, 9)] * 2
    result = quantize_bundle(
        folder, tmp_path / "bundle", quantize="int8", calibration=few_texts, max_drop="cosine:0.99"
    )
    assert result.ledger.passed
    assert not any("alone" in r.name for r in result.ledger.rungs)
    assert not open_bundle(result.path).manifest.row_by_row
    assert verify_bundle(result.path).passed
    assert pipeline(result.path)("A boat.")


@pytest.mark.slow
def test_a_batch_that_is_not_the_first_axis_is_never_split(tmp_path: Path) -> None:
    """[time, batch, width]: an item is a whole array, for a row of it is not one."""
    path = tmp_path / "encoder.onnx"
    with quiet_torch(), torch.no_grad():
        torch.onnx.export(
            encoder_layers(batch_first=False),
            (torch.randn(7, 2, 32),),
            str(path),
            input_names=["x"],
            output_names=["y"],
            dynamo=True,
            verbose=False,
            dynamic_shapes={"src": {0: torch.export.Dim("time"), 1: torch.export.Dim("batch")}},
        )
    x = np.random.default_rng(0).standard_normal((12, 6, 2, 32)).astype(np.float32)
    np.savez(tmp_path / "items.npz", x=x)
    result = quantize_bundle(
        path, tmp_path / "bundle", quantize="int8", calibration=tmp_path / "items.npz"
    )
    assert result.ledger.passed
    assert verify_bundle(result.path).passed
    assert not open_bundle(result.path).manifest.row_by_row


def test_whole_feeds_are_one_item() -> None:
    feeds = {"x": np.zeros((3, 2), np.float32), "attention_mask": np.array([[1, 0]] * 3)}
    assert [item.tokens for item in items([feeds])] == [1, 1, 1]
    (item,) = items([Whole(feeds)])
    assert item.feeds["x"].shape == (3, 2)
    assert item.tokens == 3


def unruly(path: Path) -> Path:
    """Unnamed nodes, namesakes, Constant nodes, a batched weight, weights listed as inputs."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) / 6)

    def made(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op, inputs.split(), [output], **attributes)

    first = weight(1, 32, 48)
    first.name = "w1"
    nodes = [
        made("MatMul", "x w1", "a", name="dense"),
        made("Constant", "", "w2", value=weight(48, 32)),
        made("Relu", "a", "b"),
        made("MatMul", "b w2", "c", name="dense"),
        made("Identity", "c", "d"),
        made("Constant", "", "w3", value=weight(32, 32)),
        made("Transpose", "w3", "w3t", perm=[1, 0]),
        made("MatMul", "d w3t", "y"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", None, 32])
    w1 = helper.make_tensor_value_info("w1", TensorProto.FLOAT, [1, 32, 48])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "unruly", [x, w1], [y], [first])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path
    )
    return path


def test_a_graph_without_order_is_quantized_whole(arrays: Path, tmp_path: Path) -> None:
    path = unruly(tmp_path / "unruly.onnx")
    result = quantize_bundle(path, tmp_path / "bundle", quantize="int8", calibration=arrays)
    assert result.ledger.passed
    facts = next(t for t in result.tried if t["precision"] == "int8")["facts"]
    assert facts["share_of_multiply_accumulates_in_int8"] == 1.0
    assert len({entry["node"] for entry in facts["nodes"]}) == 3
    assert verify_bundle(result.path).passed


# --- what is refused ----------------------------------------------------------------------------


def test_without_arrays_the_command_that_makes_them_is_shown(
    plain_encoder: Path, tmp_path: Path
) -> None:
    wanted = r'np.savez\("items.npz", x=x\) with x float32\[items, time, 32\]'
    with pytest.raises(DataError, match=wanted):
        quantize_bundle(plain_encoder, tmp_path / "bundle")
    texts = tmp_path / "texts.txt"
    texts.write_text("a\nb\n")
    with pytest.raises(DataError, match=r"arrays in a .npz file, texts.txt was given"):
        quantize_bundle(plain_encoder, tmp_path / "bundle", calibration=texts)
    np.savez(tmp_path / "bad.npz", z=np.zeros((8, 6, 32), np.float32))
    with pytest.raises(DataError, match=rf"no array 'x'; it has z[\s\S]+{wanted}"):
        quantize_bundle(plain_encoder, tmp_path / "bundle", calibration=tmp_path / "bad.npz")


def test_an_output_is_needed_and_never_holds_the_source(plain_encoder: Path, arrays: Path) -> None:
    with pytest.raises(InputError, match="is no bundle: say with --output where to write one"):
        quantize_bundle(plain_encoder, calibration=arrays)
    with pytest.raises(OutputError, match="which it would replace"):
        quantize_bundle(plain_encoder, plain_encoder.parent, calibration=arrays)


def test_a_folder_with_several_graphs_asks_which(plain_encoder: Path, tmp_path: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        shutil.copy(plain_encoder, tmp_path / name)
    with pytest.raises(InputError, match=r"name one of its graphs: decoder.onnx, encoder.onnx"):
        open_foreign(tmp_path)


def simple(path: Path, kind: int = TensorProto.FLOAT, inputs: bool = True) -> Path:
    x = helper.make_tensor_value_info("x", kind, ["n", 4])
    y = helper.make_tensor_value_info("y", kind, ["n", 4])
    one = numpy_helper.from_array(np.ones((1, 4), np.float32), "one")
    node = helper.make_node("Identity", ["x" if inputs else "one"], ["y"])
    graph = helper.make_graph([node], "g", [x] if inputs else [], [y], [] if inputs else [one])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"inputs": False}, "it takes no inputs"),
        ({"kind": TensorProto.STRING}, "'x' is object; known are tensors of float32"),
        ({"kind": TensorProto.INT64}, "no output is float: it has y: int64"),
    ],
)
def test_a_graph_that_cannot_be_used_says_why(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        open_foreign(simple(tmp_path / "model.onnx", **options))


def product(
    path: Path,
    inputs: list[int | str],
    weight: tuple[int, int] = (16, 8),
    *,
    summed: bool = False,
) -> Path:
    """A graph of one matrix product, and the sum over everything if asked for."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [] if summed else None)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"], name="product")]
    last = "ReduceSum" if summed else "Identity"
    nodes.append(helper.make_node(last, ["z"], ["y"], **({"keepdims": 0} if summed else {})))
    constant = numpy_helper.from_array(np.ones(weight, np.float32), "w")
    graph = helper.make_graph(nodes, "g", [x], [y], [constant])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def test_an_axis_of_minus_one_is_free(tmp_path: Path) -> None:
    signature = open_foreign(product(tmp_path / "model.onnx", [-1, 4, 16])).signature
    assert [t.shape for t in signature.inputs] == [("batch", 4, 16)]
    assert [t.shape for t in signature.outputs] == [("batch", 4, 8)]


@pytest.mark.parametrize(
    ("shape", "options", "said"),
    [
        (["n", 16], {"summed": True}, "'y' is a single number: give an output with an axis"),
        (["n", 16], {"weight": (16, 0)}, "the weight 'w' of MatMul 'product' has no values"),
        (["n", 0], {"weight": (0, 8)}, "the weight 'w' of MatMul 'product' has no values"),
        ([0, 4, 16], {}, "(?s)'x' has no values: x: float32.0, 4, 16.*'y' has no values"),
    ],
)
def test_graphs_without_values_are_refused(
    shape: list[int | str], options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        open_foreign(product(tmp_path / "model.onnx", shape, **options))


@pytest.mark.parametrize("pads", ["x", [1], 10**400, 200, True])
def test_a_config_that_leaves_no_room_for_tokens_is_refused(
    pads: Any, optimum_like: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(optimum_like("distilbert", "text-classification", dynamo=False), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "roberta", "max_position_embeddings": 128, "pad_token_id": pads}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError, match=r"pad_token_id .* leaves no place for a token among 128"):
        open_foreign(folder)


def test_a_quantized_file_is_refused_by_its_name(
    array_bundle: ExportResult, tmp_path: Path
) -> None:
    shipped = open_bundle(array_bundle.path).variant("int8").file
    copy = tmp_path / "quantized.onnx"
    shutil.copy(array_bundle.path / shipped, copy)
    with pytest.raises(InputError, match=r"quantized.onnx: .*already quantized \(\d+ Dynamic"):
        open_foreign(copy)


def test_sizes_that_are_free_in_name_only_are_said(
    optimum_like: Callable[..., Path], tmp_path: Path
) -> None:
    source = optimum_like("distilbert", "text-classification", dynamo=False, free=False)
    folder = tmp_path / "lying"
    shutil.copytree(source, folder)
    file = folder / "onnx" / "model.onnx"
    model = onnx.load(file)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
        if value.name != "logits":
            value.type.tensor_type.shape.dim[1].dim_param = "tokens"
    del model.graph.value_info[:]
    onnx.save(model, file)
    with pytest.raises(InputError, match=r"does not run on input_ids \[[\s\S]+export it again"):
        quantize_bundle(folder, tmp_path / "bundle", quantize="int8")


def test_a_bundle_made_of_a_file_says_where_it_came_from(array_bundle: ExportResult) -> None:
    ledger = json.loads((array_bundle.path / "parity.json").read_text())
    assert {r["against"] for r in ledger["rungs"] if r["name"] == "fp32 graph"} == {"the ONNX file"}
    card = (array_bundle.path / "README.md").read_text()
    assert "encoder.onnx" in card
    assert "load(" in card


# --- a real model -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dynamo", EXPORTERS)
def test_minilm_as_torch_exports_it_quantizes_as_well_as_by_the_native_route(
    minilm_folder: Path, dynamo: bool, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(minilm_folder, source, ignore=shutil.ignore_patterns("*.safetensors"))
    export_text_model(minilm_folder, "AutoModel", source / "model.onnx", dynamo=dynamo)
    # The mean token is what is pooled; a single one in thousands may be further away.
    result = quantize_bundle(source, tmp_path / "bundle", quantize="int8", max_drop="cosine:0.995")
    (facts,) = (t["facts"] for t in result.tried if t["precision"] == "int8")
    assert facts["share_of_multiply_accumulates_in_int8"] >= 0.94
    model = load(result.path)
    encode = Preprocessor.from_folder(
        result.path, model.bundle.manifest.preprocessing, model.signature
    ).texts
    session = make_session(source / "model.onnx", optimize=False)
    cosines = []
    for text in samples.texts():
        feeds = encode([text])
        one, two = (run(feeds)["last_hidden_state"][0].mean(0) for run in (model.run, session.run))
        cosines.append(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    assert np.mean(cosines) >= 0.9985
    assert np.min(cosines) >= 0.99  # what the native route promises too
