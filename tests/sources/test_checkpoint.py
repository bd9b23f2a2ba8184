from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edgetfm.errors import SourceError
from edgetfm.models.vit import FAMILY, ViTConfig
from edgetfm.sources import open_source

CONFIG = ViTConfig((8, 8), (4, 4), width=16, layers=2, heads=2, inner=24, channels=1, labels=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    module = FAMILY.build(CONFIG, "image-classification")
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    head = {"family": "vit", "task": "image-classification", "schema": 1, "version": "0.1.0"}
    data = {"edgetfm": head, "config": asdict(CONFIG), "labels": ["a", "b", "c"]}
    (tmp_path / "config.json").write_text(json.dumps(data))
    processor = {
        "size": {"height": 8, "width": 8},
        "resample": 2,
        "image_mean": [0.3],
        "image_std": [0.2],
        "do_convert_grayscale": True,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    return tmp_path


def edit(folder: Path, **values: Any) -> None:
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(data | values))


def test_a_checkpoint_is_opened_with_its_config_labels_and_sample(folder: Path) -> None:
    np.savez(folder / "sample.npz", pixel_values=np.zeros((2, 1, 8, 8), np.float32))
    source = open_source(folder)
    assert (source.kind, source.task, source.labels) == (
        "checkpoint",
        "image-classification",
        ("a", "b", "c"),
    )
    assert source.config == CONFIG
    assert source.sample == folder / "sample.npz"
    assert source.preprocessing["image"]["channels"] == 1
    assert source.preprocessing["image"]["mean"] == [0.3]


def test_its_bundle_has_a_config_that_hugging_faces_programs_read(folder: Path) -> None:
    from transformers import AutoConfig

    raw = json.loads(open_source(folder).assets["config.json"])
    assert raw["edgetfm"]["family"] == "vit"
    theirs = AutoConfig.for_model(**raw)
    assert (theirs.model_type, theirs.id2label) == ("vit", {0: "a", 1: "b", 2: "c"})
    assert theirs.hidden_size == CONFIG.width
    other = open_source(folder, task="image-feature-extraction")
    features = json.loads(other.assets["config.json"])
    assert (features["architectures"], "id2label" in features) == (["ViTModel"], False)


def test_the_module_answers_like_the_weights_it_came_from(folder: Path) -> None:
    trained = FAMILY.build(CONFIG, "image-classification").eval()
    trained.load_state_dict(load_file(folder / "model.safetensors"))
    source = open_source(folder)
    pixels = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        wanted = trained(pixel_values=pixels)["logits"]
    reference = source.reference()({"pixel_values": pixels.numpy()})["logits"]
    assert np.array_equal(reference, wanted.numpy())
    torch.testing.assert_close(source.module()(pixel_values=pixels)["logits"], wanted)


def test_using_a_checkpoint_leaves_its_file_alone(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    source = open_source(folder)
    with torch.no_grad():
        for parameter in source.module().parameters():
            parameter.zero_()
    assert (folder / "model.safetensors").read_bytes() == before
    assert any(p.any() for p in source.module().parameters())


def test_features_of_a_trained_classifier_leave_its_head_out(folder: Path) -> None:
    source = open_source(folder, task="image-features")
    assert "image-classification" in source.notes[0]
    out = source.reference()({"pixel_values": np.zeros((2, 1, 8, 8), np.float32)})
    assert out["image_embedding"].shape == (2, 16)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"edgetfm": {"family": "vit", "task": "image-classification", "schema": 2}}, "upgrade"),
        ({"edgetfm": {"family": "vit", "task": "image-classification"}}, "schema"),
        ({"edgetfm": {"family": "cat", "task": "fill-mask", "schema": 1}}, "cat"),
        ({"edgetfm": {"family": "vit", "task": "fill-mask", "schema": 1}}, "fill-mask"),
        ({"edgetfm": []}, "schema"),
        ({"config": {**asdict(CONFIG), "strange": 1}}, "strange"),
        ({"config": {"width": 16}}, "malformed"),
        ({"config": None}, "config"),
        ({"config": {**asdict(CONFIG), "width": 32}}, "the config says"),
        ({"config": {**asdict(CONFIG), "width": "wide"}}, "width"),
        ({"config": {**asdict(CONFIG), "heads": 0}}, "heads"),
        ({"config": {**asdict(CONFIG), "activation": "mish"}}, "mish"),
        ({"config": {**asdict(CONFIG), "image_size": 8}}, "image_size"),
    ],
)
def test_a_config_that_is_not_ours_or_does_not_fit_is_refused(
    values: dict[str, Any], words: str, folder: Path
) -> None:
    edit(folder, **values)
    with pytest.raises(SourceError, match=words):
        open_source(folder)


def test_spoiled_weights_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["norm.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(SourceError, match=r"norm\.weight"):
        open_source(folder)
    (folder / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(SourceError, match="safetensors"):
        open_source(folder)
