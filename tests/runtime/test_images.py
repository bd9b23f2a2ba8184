"""Pictures become what transformers' Pillow image processors make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil
from transformers.models.glpn.image_processing_pil_glpn import GLPNImageProcessorPil
from transformers.models.mobilevit.image_processing_pil_mobilevit import MobileViTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.images import ImageReader, center_crop
from edgetfm.signature import Signature, TensorSpec

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def reader(channels: int = 3, **settings: Any) -> ImageReader:
    shape = ("batch", channels, "height", "width")
    signature = Signature((TensorSpec("pixel_values", "float32", shape),), ())
    return ImageReader.from_settings(
        {"size": [224, 224], "rescale": 1 / 255, "mean": MEAN[:channels], "std": STD[:channels]}
        | {"channels": channels, "resize": {"mode": "exact"}}
        | settings,
        signature,
    )


PROCESSORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (
        ViTImageProcessorPil(image_mean=MEAN, image_std=STD),
        {},
    ),
    "deit": (
        DeiTImageProcessorPil(image_mean=MEAN, image_std=STD),
        {"size": [256, 256], "crop": [224, 224], "resample": "bicubic"},
    ),
    "shortest edge": (
        DeiTImageProcessorPil(image_mean=MEAN, image_std=STD, size={"shortest_edge": 250}),
        {
            "resize": {"mode": "shortest_edge", "edge": 250},
            "crop": [224, 224],
            "resample": "bicubic",
        },
    ),
    "lanczos, not square": (
        ViTImageProcessorPil(
            image_mean=MEAN, image_std=STD, resample=1, size={"height": 96, "width": 160}
        ),
        {"size": [96, 160], "resample": "lanczos"},
    ),
    "shorter edge, not too long": (
        DetrImageProcessorPil(
            image_mean=MEAN, image_std=STD, size={"shortest_edge": 97, "longest_edge": 131}
        ),
        {"resize": {"mode": "shortest_edge", "edge": 97, "longest": 131}},
    ),
    "sides that YOLOS' patches divide": (
        YolosImageProcessorPil(
            image_mean=MEAN, image_std=STD, size={"shortest_edge": 97, "longest_edge": 131}
        ),
        {"resize": {"mode": "shortest_edge", "edge": 97, "longest": 131, "multiple": 16}},
    ),
    "one side fits": (
        DPTImageProcessorPil(
            image_mean=MEAN,
            image_std=STD,
            size={"height": 90, "width": 120},
            keep_aspect_ratio=True,
            ensure_multiple_of=14,
        ),
        {"resize": {"mode": "fit", "size": [90, 120], "multiple": 14}, "resample": "bicubic"},
    ),
    "the next smaller multiple": (
        GLPNImageProcessorPil(do_normalize=True, image_mean=MEAN, image_std=STD),
        {"resize": {"mode": "multiple", "multiple": 32}},
    ),
    "blue first": (
        MobileViTImageProcessorPil(crop_size=224),
        {
            "resize": {"mode": "shortest_edge", "edge": 224},
            "crop": [224, 224],
            "resample": "bicubic",
            "order": "bgr",
            "mean": [0.0] * 3,
            "std": [1.0] * 3,
        },
    ),
    "crop larger than the image": (
        DeiTImageProcessorPil(
            image_mean=MEAN,
            image_std=STD,
            size={"height": 31, "width": 40},
            crop_size={"height": 44, "width": 37},
        ),
        {"size": [31, 40], "crop": [44, 37], "resample": "bicubic"},
    ),
    "nearest, not normalized": (
        ViTImageProcessorPil(do_normalize=False, resample=0, size={"height": 50, "width": 50}),
        {"size": [50, 50], "resample": "nearest", "mean": [0.0] * 3, "std": [1.0] * 3},
    ),
    "no resize": (
        DeiTImageProcessorPil(image_mean=MEAN, image_std=STD, do_resize=False),
        {"resize": {"mode": "none"}, "crop": [224, 224]},
    ),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_photographs_agree(name: str, pictures: list[Path]) -> None:
    theirs, settings = PROCESSORS[name]
    wanted = theirs([load_image(str(p)) for p in pictures], return_tensors="np")["pixel_values"]
    got = reader(**settings)(pictures)["pixel_values"]
    assert got.dtype == np.float32
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=0)


def test_portrait_and_landscape_keep_their_aspect(pictures: list[Path], tmp_path: Path) -> None:
    turned = tmp_path / "turned.png"
    with Image.open(pictures[0]) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(turned)
    theirs, settings = PROCESSORS["shortest edge"]
    wanted = theirs(load_image(str(turned)), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(
        reader(**settings)(turned)["pixel_values"], wanted, atol=1e-4, rtol=0
    )


@pytest.fixture
def photo(pictures: list[Path]) -> Image.Image:
    with Image.open(pictures[1]) as image:
        return image.resize((64, 48)).copy()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_is_read_as_transformers_reads_it(
    mode: str, photo: Image.Image, tmp_path: Path
) -> None:
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    photo.convert(mode).save(path)
    theirs, _ = PROCESSORS["vit"]
    wanted = theirs(load_image(str(path)), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(reader()(path)["pixel_values"], wanted, atol=1e-4, rtol=0)


def test_transparency_is_dropped_and_a_transparent_palette_too(
    photo: Image.Image, tmp_path: Path
) -> None:
    photo.putalpha(0)
    opaque = reader()(photo.convert("RGB"))["pixel_values"]
    np.testing.assert_array_equal(reader()(photo)["pixel_values"], opaque)
    palette = photo.convert("RGB").convert("P")
    palette.save(tmp_path / "image.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(
        reader()(tmp_path / "image.png")["pixel_values"], reader()(palette)["pixel_values"]
    )


def test_a_rotated_photograph_is_turned_upright(photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    photo.save(tmp_path / "image.png", exif=exif)
    upright = photo.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(
        reader()(tmp_path / "image.png")["pixel_values"], reader()(upright)["pixel_values"]
    )


def test_16_bits_are_scaled_not_clipped(photo: Image.Image, tmp_path: Path) -> None:
    grey = photo.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    deep.save(tmp_path / "deep.png")
    wanted = reader()(grey)["pixel_values"]
    np.testing.assert_array_equal(reader()(tmp_path / "deep.png")["pixel_values"], wanted)
    np.testing.assert_array_equal(reader()(deep.convert("I"))["pixel_values"], wanted)


def test_arrays_are_read_like_images(photo: Image.Image) -> None:
    colour, grey = np.asarray(photo), np.asarray(photo.convert("L"))
    alpha = np.dstack([colour, np.full(colour.shape[:2], 9, np.uint8)])
    one = reader()(photo)["pixel_values"]
    np.testing.assert_array_equal(reader()(colour)["pixel_values"], one)
    np.testing.assert_array_equal(reader()(alpha)["pixel_values"], one)
    np.testing.assert_array_equal(reader()(colour[::-1, ::-1])["pixel_values"].shape, one.shape)
    np.testing.assert_array_equal(
        reader()([grey, grey[:, :, None], photo.convert("L")])["pixel_values"][0],
        reader()(grey)["pixel_values"][0],
    )
    assert reader()([photo, colour])["pixel_values"].shape == (2, 3, 224, 224)


def test_one_channel_models_get_grey(photo: Image.Image) -> None:
    grey = np.asarray(photo.convert("L"), dtype=np.float64)
    got = reader(channels=1, resize={"mode": "none"}, mean=[0.5], std=[0.25])(photo)["pixel_values"]
    assert got.shape == (1, 1, 48, 64)
    np.testing.assert_allclose(got[0, 0], (grey / 255 - 0.5) / 0.25, atol=1e-6)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((2, 3, 4, 4), np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_other_arrays_are_input_errors(array: Any) -> None:
    with pytest.raises(InputError, match="an image array is uint8"):
        reader()(array)


def test_files_that_are_no_images_are_input_errors(photo: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    photo.save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").touch()
    for name in ("text.png", "cut.jpg", "empty.png"):
        with pytest.raises(InputError, match=f"{name} cannot be read as an image"):
            reader()(tmp_path / name)
    with pytest.raises(InputError, match="no image at"):
        reader()(tmp_path / "absent.png")
    with pytest.raises(InputError, match="not dict"):
        reader()([{}])
    with pytest.raises(InputError, match="no images"):
        reader()([])
    with pytest.raises(InputError, match="floating-point"):
        reader()(photo.convert("F"))
    with pytest.raises(InputError, match="outside 16 bits"):
        reader()(Image.fromarray(np.full((4, 4), 1 << 20, np.int32)))


def test_a_decompression_bomb_is_an_input_error(
    photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo.save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="decompression bomb"):
        reader()(tmp_path / "large.png")


def test_images_of_different_sizes_need_a_resize(photo: Image.Image) -> None:
    with pytest.raises(InputError, match="different sizes"):
        reader(resize={"mode": "none"})([photo, photo.resize((10, 10))])


@pytest.mark.parametrize(
    "settings",
    [
        {"resample": "sharp"},
        {"resize": {"mode": "longest"}},
        {"resize": {}, "size": None},
        {"channels": 4},
        {"std": [1.0, 0.0, 1.0]},
        {"mean": [1.0, 2.0]},
    ],
)
def test_malformed_settings_are_bundle_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="image preprocessing"):
        reader(**settings)


def test_a_crop_keeps_the_middle() -> None:
    pixels = np.arange(25).reshape(5, 5)
    assert center_crop(pixels, (3, 1)).tolist() == [[7], [12], [17]]
    assert center_crop(pixels[:1, :1] + 1, (2, 3)).tolist() == [[0, 0, 0], [0, 1, 0]]
