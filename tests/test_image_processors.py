"""What is read of a processor's file makes the pixels that the processor makes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgetfm.errors import SourceError
from edgetfm.image_processors import FREE, read_image_processor, read_image_size
from edgetfm.signature import Signature, TensorSpec
from edgetfm.sources.adapter.pictures import check_pictures

SQUARE = {"height": 48, "width": 48}
EDGES = {"shortest_edge": 60, "longest_edge": 90}

PROCESSORS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "ViTImageProcessor": ({"size": SQUARE}, (48, 48)),
    "CLIPImageProcessor": ({"size": {"shortest_edge": 50}, "crop_size": SQUARE}, (48, 48)),
    "BitImageProcessor": ({"size": {"shortest_edge": 50}, "crop_size": SQUARE}, (48, 48)),
    "ConvNextImageProcessor": ({"size": {"shortest_edge": 48}, "crop_pct": 0.875}, (48, 48)),
    "SegformerImageProcessor": ({"size": SQUARE, "do_reduce_labels": True}, (48, 48)),
    "BeitImageProcessor": ({"size": SQUARE, "do_center_crop": False}, (48, 48)),
    "MobileViTImageProcessor": ({"size": {"shortest_edge": 50}, "crop_size": SQUARE}, (48, 48)),
    "DetrImageProcessor": ({"size": EDGES}, FREE),
    "ConditionalDetrImageProcessor": ({"size": EDGES}, FREE),
    "YolosImageProcessor": ({"size": EDGES}, FREE),
    "RTDetrImageProcessor": ({"size": SQUARE}, (48, 48)),
    "DPTImageProcessor": ({"size": SQUARE, "ensure_multiple_of": 14}, (42, 42)),
    "GLPNImageProcessor": ({"size_divisor": 32}, FREE),
    "SiglipImageProcessor": ({"size": SQUARE}, (48, 48)),
}


def saved(folder: Path, kind: str, settings: dict[str, Any]) -> None:
    from transformers import AutoImageProcessor

    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({"image_processor_type": kind} | settings))
    AutoImageProcessor.from_pretrained(folder, backend="pil").save_pretrained(folder)


def check(folder: Path) -> None:
    """Two pictures are the same pixels in transformers and here."""
    size = read_image_size(folder, None)
    made = read_image_processor(folder, SimpleNamespace(image_size=size, channels=3))
    sides: tuple[int | str, ...] = ("height", "width") if size == FREE else size
    pixels = TensorSpec("pixel_values", "float32", ("batch", 3, *sides))
    check_pictures(folder, made, Signature((pixels,), ()))


@pytest.mark.parametrize("kind", PROCESSORS)
def test_a_processors_file_makes_its_pixels(kind: str, tmp_path: Path) -> None:
    settings, size = PROCESSORS[kind]
    saved(tmp_path, kind, settings)
    assert read_image_size(tmp_path, None) == size
    check(tmp_path)


def test_one_number_is_the_shorter_edge_where_the_class_takes_it_so(tmp_path: Path) -> None:
    old = {"size": 60, "max_size": 90, "feature_extractor_type": "DetrFeatureExtractor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    made = read_image_processor(tmp_path, SimpleNamespace(image_size=FREE, channels=3))
    rule = made.preprocessing["image"]["resize"]
    assert rule == {"mode": "shortest_edge", "edge": 60, "longest": 90}
    old["feature_extractor_type"] = "ViTFeatureExtractor"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    assert read_image_size(tmp_path, None) == (60, 60)


def test_padding_that_is_masked_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, "DetrImageProcessor", {"size": EDGES, "pad_size": {"height": 99, "width": 99}})
    with pytest.raises(SourceError, match="masks the padding"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": {"shortest_edge": 0}}, "shortest edge is 0"),
        ({"size": {"max_height": 4}}, "is not the size of an image"),
        ({"size": SQUARE, "resample": 77}, "resample 77"),
        ({"size": SQUARE, "image_mean": [0.5]}, "image_mean is"),
        ({"size": {"shortest_edge": 48}, "crop_pct": 7}, "crop_pct is 7"),
    ],
)
def test_a_malformed_file_is_refused(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(SourceError, match=words):
        read_image_processor(tmp_path, SimpleNamespace(image_size=(48, 48), channels=3))
