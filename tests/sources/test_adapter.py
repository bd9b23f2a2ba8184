"""The adapter's source: the same signatures and answers as natively, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from edgetfm import export_model, load, verify_bundle
from edgetfm.bundle import open_bundle
from edgetfm.errors import InputError, SourceError
from edgetfm.export import discard
from edgetfm.sources import open_source
from tests.plain import Exported

TinyHF = Callable[..., Path]

HEADS = [
    ("bert", "feature-extraction"),
    ("bert", "fill-mask"),
    ("roberta", "text-classification"),
    ("distilbert", "token-classification"),
    ("mpnet", "question-answering"),
    ("vit", "image-classification"),
    ("deit", "image-feature-extraction"),
]


@pytest.fixture(scope="module")
def pristine(tiny_hf: TinyHF, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "model"
    return tiny_hf("electra", "text-classification", folder, embedding_size=16)


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def edit(folder: Path, name: str = "config.json", **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refused(folder: Path, *words: str, **options: Any) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(folder, **options)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(("model_type", "task"), HEADS)
def test_both_routes_take_and_give_the_same(
    model_type: str, task: str, tiny_hf: TinyHF, tmp_path: Path
) -> None:
    made = tiny_hf(model_type, task, tmp_path / "model")
    native = open_source(made, task=task, route="native")
    adapted = open_source(made, task=task, route="adapter")
    assert (native.route, adapted.route) == ("native", "adapter")
    assert adapted.signature == native.signature
    assert (adapted.preprocessing, adapted.labels) == (native.preprocessing, native.labels)
    assert adapted.provenance == native.provenance
    random = np.random.default_rng(0)
    feeds = {
        t.name: random.standard_normal((2, *t.shape[1:])).astype(np.float32)
        if t.dtype == "float32"
        else np.ones((2, 9), np.int64) * (5 if t.name == "input_ids" else t.name[0] == "a")
        for t in native.signature.inputs
    }
    ours, theirs = native.reference()(feeds), adapted.reference()(feeds)
    for name, wanted in ours.items():
        np.testing.assert_allclose(theirs[name], wanted, atol=1e-5)


def test_a_type_without_a_family_takes_the_adapter_and_says_so(folder: Path) -> None:
    source = open_source(folder)
    assert (source.route, source.family.name, source.task) == (
        "adapter",
        "electra",
        "text-classification",
    )
    assert source.labels == ("bad", "fair", "good")
    assert source.notes == ("the graph of this electra is made by transformers.exporters",)


def test_what_a_family_does_not_honour_goes_to_the_adapter(tiny_hf: TinyHF, tmp_path: Path) -> None:
    made = tiny_hf("bert", "text-classification", tmp_path / "model", hidden_act="mish")
    source = open_source(made)
    assert (source.route, source.family.name) == ("adapter", "bert")
    assert "hidden_act is 'mish', which bert does not have" in source.notes[0]
    refused(made, "hidden_act is 'mish'", route="native")
    edit(made, hidden_act="gelu", position_embedding_type="relative_key", is_decoder=True)
    refused(made, "is_decoder", "nor does the adapter take it: ")


def test_weights_are_read_once(folder: Path) -> None:
    source = open_source(folder)
    module = source.module()
    assert source.module() is module
    discard(module)
    assert any(p.any() for p in source.module().parameters())


def test_a_head_without_weights_is_refused_not_made_up(folder: Path) -> None:
    refused(folder, "lacks weights of ElectraForTokenClassification", task="token-classification")


def test_weights_that_a_task_has_no_use_for_are_named(folder: Path) -> None:
    source = open_source(folder, task="feature-extraction")
    assert any("no use for these weights: classifier.dense" in note for note in source.notes)


def test_weights_that_are_not_finite_are_refused_by_name(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.out_proj.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")
    refused(folder, "classifier.out_proj.bias", "NaN")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"is_decoder": True}, "is_decoder"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized already"),
        ({"attention_type": "block_sparse"}, "block_sparse"),
        ({"model_type": "opt"}, "a decoder: edgetfm takes encoders"),
        ({"model_type": "bart"}, "an encoder-decoder: edgetfm takes encoders"),
        ({"model_type": 7}, "no model_type"),
    ],
)
def test_what_is_no_float_encoder_is_refused(
    values: dict[str, Any], words: str, folder: Path
) -> None:
    edit(folder, **values)
    refused(folder, words)


def test_a_task_of_another_modality_is_refused(folder: Path) -> None:
    refused(folder, "image-classification", task="image-classification")


def test_a_route_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it can be native or adapter"):
        export_model(folder, tmp_path / "bundle", route="scenic")


@pytest.mark.slow
def test_a_real_sentence_encoder_by_the_adapter_ships_in_int8(
    minilm_folder: Path, minilm_bundle: Exported, tmp_path: Path, texts: list[str]
) -> None:
    """The proof of the adapter's int8: the budget is the task's own, on the shipped sample."""
    adapted = export_model(
        minilm_folder, tmp_path / "adapter", route="adapter", quantize="int8", keep_fp32=True
    )
    native = minilm_bundle.bundle
    routes = (adapted.route, open_bundle(native).manifest.route)
    assert (*routes, adapted.variant) == ("adapter", "native", "int8")
    assert adapted.ledger.passed
    assert verify_bundle(adapted.path, reference=minilm_folder).passed
    sizes = [open_bundle(p).variant_bytes("fp32") for p in (adapted.path, native)]
    assert abs(sizes[0] / sizes[1] - 1) < 0.02
    one, two = (load(p, precision="fp32") for p in (adapted.path, native))
    ids = np.arange(1000, 1040).reshape(2, 20)
    feeds = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    for name, wanted in two.run(feeds).items():
        np.testing.assert_allclose(one.run(feeds)[name], wanted, atol=1e-5)
