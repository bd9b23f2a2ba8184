"""CLIP answers as eager transformers, in PyTorch and as one graph of two inputs' batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgetfm import export_model, load
from edgetfm.errors import SourceError
from edgetfm.models.clip import FAMILY, CLIPConfig
from edgetfm.signature import Feeds
from edgetfm.sources import eager, open_source
from tests.adapter.conftest import tiny_of_type as tiny_of_type

LIMIT = 1e-5
VECTORS = ("text_embeds", "image_embeds")


@pytest.fixture(scope="module")
def folder(
    tiny_of_type: Callable[[str, Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return tiny_of_type("clip", tmp_path_factory.mktemp("clip") / "source")


def feeds_of(config: CLIPConfig, lengths: list[int], pictures: int) -> Feeds:
    """Random texts of these lengths, each with the token that ends it, and random pictures."""
    random = np.random.default_rng(len(lengths))
    real = np.arange(max(lengths)) < np.array(lengths)[:, None]
    ids = random.integers(5, config.vocabulary, real.shape) * real
    ids[np.arange(len(lengths)), np.array(lengths) - 1] = config.end or config.vocabulary - 1
    pixels = random.standard_normal((pictures, config.channels, *config.image_size))
    return {
        "input_ids": ids,
        "attention_mask": real.astype(np.int64),
        "pixel_values": pixels.astype(np.float32),
    }


@pytest.mark.parametrize("end", ["its own", "as OpenAI's files have it"])
def test_a_clip_answers_as_transformers_does(end: str, folder: Path, tmp_path: Path) -> None:
    if end != "its own":
        said = json.loads((folder / "config.json").read_text())
        said["text_config"]["eos_token_id"] = 2
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        folder = tmp_path
        (folder / "config.json").write_text(json.dumps(said))
    source = open_source(folder)
    assert (source.route, source.family.name) == ("native", "clip")
    module, reference = eager(source.module()), source.reference()
    for lengths, pictures in (([2], 1), ([17, 5, 9], 2), ([64, 3], 5)):
        feeds = feeds_of(source.config, lengths, pictures)
        got, wanted = module(feeds), reference(feeds)
        assert got["logits_per_image"].shape == (pictures, len(lengths))
        for name, value in wanted.items():
            assert np.abs(got[name] - value).max() <= LIMIT * np.abs(value).max(), name
        for name in VECTORS:
            np.testing.assert_allclose(np.linalg.norm(got[name], axis=1), 1, atol=1e-5)


def test_a_config_comes_back_from_hugging_faces_form(folder: Path) -> None:
    config = open_source(folder).config
    assert FAMILY.from_hf is not None
    assert FAMILY.to_hf is not None
    assert FAMILY.from_hf.config(FAMILY.to_hf(config, FAMILY.tasks[0]), "") == config


@pytest.mark.parametrize(
    ("half", "changed", "said"),
    [
        ("vision", {"num_channels": 2}, "num_channels"),
        ("vision", {"hidden_act": "relu"}, "hidden_act"),
        ("text", {"hidden_act": "mish"}, "mish"),
        ("text", {"num_attention_heads": 5}, "does not divide"),
        ("text", {"hidden_size": 0}, "hidden_size"),
    ],
)
def test_what_it_does_not_honour_is_refused_by_name(
    half: str, changed: dict[str, Any], said: str, folder: Path
) -> None:
    assert FAMILY.from_hf is not None
    hf = json.loads((folder / "config.json").read_text())
    hf[f"{half}_config"] |= changed
    with pytest.raises(SourceError, match=said):
        FAMILY.from_hf.config(hf, FAMILY.tasks[0])


@pytest.mark.slow
def test_its_graph_has_the_names_that_other_programs_know(folder: Path, tmp_path: Path) -> None:
    made = export_model(folder, tmp_path / "bundle", quantize="int8", keep_fp32=True)
    assert made.route == "native"
    assert made.ledger.passed
    graph = onnx.load(made.path / "onnx" / "model.onnx").graph
    assert [i.name for i in graph.input] == ["input_ids", "attention_mask", "pixel_values"]
    assert {"logits_per_image", *VECTORS} == {o.name for o in graph.output}
    assert {node.domain for node in graph.node} <= {""}
    model = load(made.path, precision="fp32")
    feeds = feeds_of(open_source(folder).config, [9, 4], 3)
    together = model.run(feeds)
    alone = model.run({**feeds, "pixel_values": feeds["pixel_values"][1:2]})
    np.testing.assert_allclose(
        alone["logits_per_image"], together["logits_per_image"][1:2], rtol=1e-4, atol=1e-4
    )
