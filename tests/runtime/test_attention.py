"""The weights of attention that a bundle shows are those of eager transformers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgetfm.cli._attention import _labels
from edgetfm.errors import InputError
from edgetfm.reporting.attention import MOST, attention_page
from edgetfm.runtime import pipeline
from edgetfm.runtime.attention import AttentionMap, attention_maps, places_of, rollout
from edgetfm.sources._reference import load_model
from tests.memory_model import make_tiny_memory

TEXT = "The old captain from Lisbon sold his boat."


def theirs(folder: Path, task: str, feeds: dict[str, Any]) -> list[np.ndarray]:
    model, _ = load_model(folder, task)
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
        return [a[0].numpy() for a in model(**tensors, output_attentions=True).attentions]


@pytest.mark.parametrize(
    "model_type", ["mistral", *(pytest.param(m, marks=pytest.mark.slow) for m in ("qwen3", "gpt2"))]
)
def test_a_decoders_maps_are_transformers_attentions(
    tiny_decoder_bundle: Callable[..., Any], model_type: str
) -> None:
    made = tiny_decoder_bundle(model_type)
    pipe = pipeline(made.bundle)
    feeds = pipe.preprocessor.texts([TEXT])
    maps = attention_maps(pipe.model, feeds)
    wanted = theirs(made.source, "text-generation", feeds)
    assert len(maps) == len(wanted)
    for got, layer in zip(maps, wanted, strict=True):
        np.testing.assert_allclose(got.weights, layer, atol=1e-5)


def test_an_encoders_maps_are_transformers_attentions(tiny_bundle: Callable[..., Any]) -> None:
    made = tiny_bundle("bert", "fill-mask")
    pipe = pipeline(made.bundle)
    feeds = pipe.preprocessor.texts([TEXT])
    maps = attention_maps(pipe.model, feeds)
    for got, layer in zip(maps, theirs(made.source, "fill-mask", feeds), strict=True):
        np.testing.assert_allclose(got.weights, layer, atol=1e-5)


def test_the_page_comes_with_the_answer_and_holds_every_token(
    tiny_bundle: Callable[..., Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from edgetfm.cli import main

    bundle, page = str(tiny_bundle("bert", "fill-mask").bundle), tmp_path / "page.html"
    text = "The old [MASK] <from> Lisbon."
    assert main(["run", bundle, text, "--attention", str(page)]) == 0
    assert capfd.readouterr().out
    html = page.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', html)
    assert "<" not in data  # a token cannot end the script
    labels, layers = (json.loads(data)[name] for name in ("labels", "layers"))
    assert "".join(labels) == "[CLS]" + text.replace(" ", "") + "[SEP]"
    for layer in layers:
        steps = np.frombuffer(base64.b64decode(layer["steps"]), np.uint8)
        rows = steps.reshape(layer["heads"], len(labels), len(labels)).sum(axis=-1)
        assert (abs(rows - 255.0) <= len(labels) / 2).all()
    assert "http" not in html
    assert main(["run", bundle, text, "more", "--attention", str(page)]) == 2
    assert "draws one INPUT, 2 were given" in capfd.readouterr().err
    assert main(["run", bundle, text, "--attention", str(tmp_path / "heat.png")]) == 2
    assert "FILE.png is for a picture" in capfd.readouterr().err


@pytest.mark.slow
def test_a_memory_shows_what_of_its_text_it_looks_at(
    tmp_path: Path, texts: list[str], tiny_decoder_bundle: Callable[..., Any]
) -> None:
    from tests.plain import export_plain

    source = make_tiny_memory(tmp_path / "source", texts=texts, layers=1, memory=4)
    pipe = pipeline(export_plain(source, tmp_path / "bundle").bundle)
    (shown,) = attention_maps(pipe.model, pipe.preprocessor.texts([TEXT]))
    place = np.arange(shown.weights.shape[-1])
    distance = place[:, None] - place[None, :]
    seen = (distance >= 0) & (distance <= 4)
    assert (shown.weights[:, ~seen] == 0).all()
    np.testing.assert_allclose(shown.weights.sum(axis=-1), 1, atol=1e-6)


def test_what_has_no_weights_to_show_says_so(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    from edgetfm.runtime.model import Model
    from edgetfm.runtime.session import make_session

    def opened(op: str, **attributes: Any) -> Model:
        axes = {"x": [1, 4, 8]}
        x, y = (
            helper.make_tensor_value_info(n, TensorProto.FLOAT, axes.get(n, [1, 4, 8]))
            for n in "xy"
        )
        inputs = ["x"] * (3 if op == "MultiHeadAttention" else 1)
        domain = "com.microsoft" if op == "MultiHeadAttention" else ""
        node = helper.make_node(op, inputs, ["y"], domain=domain, **attributes)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
        graph = helper.make_graph([node], "graph", [x], [y])
        path = tmp_path / f"{op}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
        return Model(None, "fp32", make_session(path))  # type: ignore[arg-type]

    feeds = {"x": np.zeros((1, 4, 8), np.float32)}
    with pytest.raises(InputError, match="weights of MultiHeadAttention stay inside"):
        attention_maps(opened("MultiHeadAttention", num_heads=2), feeds)
    with pytest.raises(InputError, match="linear attention has neither"):
        attention_maps(opened("Relu"), feeds)


def test_a_page_of_more_tokens_than_a_screen_has_room_for_is_refused() -> None:
    with pytest.raises(InputError, match=f"at most {MOST}"):
        attention_page("a", ["x"] * (MOST + 1), [])


def test_layers_that_see_other_places_are_refused_by_their_sizes() -> None:
    maps = [AttentionMap("encoder", np.ones((2, 4, 4)) / 4), AttentionMap("d", np.eye(4)[None, :3])]
    for way in (rollout, places_of):
        with pytest.raises(InputError, match="different places, 3x4, 4x4"):
            way(maps)
    with pytest.raises(InputError, match="2x2, 4x4"):
        places_of([maps[0], AttentionMap("later", np.eye(2)[None])])


def test_the_sides_of_a_picture_tell_its_rows_of_patches(tiny_bundle: Callable[..., Any]) -> None:
    pipe = pipeline(tiny_bundle("vit", "image-classification").bundle)
    name = pipe.preprocessor.image_reader.name

    def labels(height: int, width: int, count: int) -> list[str]:
        return _labels(pipe, "", {name: np.zeros((1, 3, height, width), np.float32)}, count)

    wide = labels(16, 64, 17)
    assert wide[:3] == ["[class]", "0,0 ", "0,1 "]
    assert wide[-1] == "1,7 ", "not four rows of four"
    assert labels(64, 16, 18)[:2] == ["[class]", "[distilled]"]
    assert labels(64, 16, 16)[-1] == "7,1 "
    assert labels(40, 80, 51)[-1] == "4,9 "
    assert labels(30, 30, 12) == [f"{i} " for i in range(12)], "no patches: numbers"


def test_a_picture_is_tinted_where_it_is_looked_at(
    tiny_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    from edgetfm.cli import main

    bundle, picture = str(tiny_bundle("vit", "image-classification").bundle), tmp_path / "grey.png"
    Image.effect_noise((40, 30), 60).save(picture)
    assert main(["run", bundle, str(picture), "--attention", str(tmp_path / "heat.png")]) == 0
    pipe = pipeline(bundle)
    feeds = pipe.preprocessor.images([str(picture)])
    weights = rollout(attention_maps(pipe.model, feeds))
    assert weights.sum() == pytest.approx(1)
    patches = weights[1:]
    side = round(len(patches) ** 0.5)
    with Image.open(tmp_path / "heat.png") as drawn:
        parts = np.asarray(drawn.resize((side, side), Image.Resampling.BOX), np.float32)
    assert (parts[..., 0] - parts[..., 2]).argmax() == patches.argmax(), "the noise is grey"
    reader = pipe.preprocessor.image_reader
    shown = Image.fromarray(reader.shown(feeds[reader.name][0]))
    np.testing.assert_allclose(reader.read(shown), feeds[reader.name][0], atol=1e-5)
