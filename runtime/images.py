"""Pictures to arrays, as transformers' Pillow image processors do it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from edgetfm.errors import BundleError, InputError, MissingExtra
from edgetfm.runtime.resizing import MODES, Resize
from edgetfm.signature import Array, Feeds, Signature

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = Any
"""A path, a Pillow image, or a uint8 array [h, w] or [h, w, c] with 1, 3 or 4 channels."""

_SQUARE = 512
"""Pixels, for what depends on a picture's size where there is no picture."""

_FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")


@dataclass(frozen=True)
class ImageReader:
    """Pictures to one float input [batch, channels, height, width], in this order of steps:
    resize, center crop, times `rescale`, minus `mean`, over `std`.

    order: of the three colours, `rgb` or `bgr`.
    """

    name: str
    dtype: str
    resize: Resize
    resample: str
    crop: tuple[int, int] | None
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    order: str = "rgb"

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], signature: Signature) -> Self:
        """The reader that a manifest's preprocessing["image"] describes."""
        if len(signature.inputs) != 1 or len(signature.inputs[0].shape) != 4:
            raise BundleError("a picture becomes one input [batch, channels, height, width]")
        spec = signature.inputs[0]
        try:
            channels = int(settings.get("channels", 3))
            crop = settings.get("crop")
            reader = cls(
                name=spec.name,
                dtype=spec.dtype,
                resize=Resize.from_settings(
                    settings.get("resize") or {}, settings.get("size", (1, 1))
                ),
                resample=str(settings.get("resample", "bilinear")),
                crop=None if crop is None else (int(crop[0]), int(crop[1])),
                rescale=float(settings.get("rescale", 1.0)),
                mean=_per_channel(settings.get("mean", 0.0), channels),
                std=_per_channel(settings.get("std", 1.0), channels),
                channels=channels,
                order=str(settings.get("order", "rgb")),
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BundleError(
                f"the image preprocessing is malformed: {type(error).__name__} {error}"
            ) from error
        if reader.resize.mode not in MODES or reader.resample not in _FILTERS:
            raise BundleError(
                f"the image preprocessing has mode '{reader.resize.mode}' and filter "
                f"'{reader.resample}'; known are {', '.join(MODES)}, and {', '.join(_FILTERS)}"
            )
        if min(*reader.resize.numbers, *(reader.crop or (1,))) < 1:
            raise BundleError("the image preprocessing has a size, crop or edge below 1")
        if channels not in (1, 3) or 0.0 in reader.std or reader.order not in ("rgb", "bgr"):
            raise BundleError(
                "the image preprocessing needs 1 or 3 channels, in the order rgb or bgr, and no "
                "std of 0"
            )
        return reader

    @property
    def usual_size(self) -> tuple[int, int]:
        """(height, width) of what a square picture becomes."""
        return self.crop or self.resize(_SQUARE, _SQUARE)

    def __call__(self, pictures: Picture | Sequence[Picture]) -> Feeds:
        """The pictures as one batch; a single picture is a batch of one."""
        single = isinstance(pictures, str) or not isinstance(pictures, Sequence)
        pictures = [pictures] if single else pictures
        if not pictures:
            raise InputError("no images were given")
        rows = [self.read(picture) for picture in pictures]
        shapes = {row.shape for row in rows}
        if len(shapes) > 1:
            raise InputError(
                "the images have different sizes after preprocessing, which this model does not "
                f"resize to one: {', '.join(map(str, sorted(shapes)))}"
            )
        return {self.name: np.stack(rows).astype(self.dtype)}

    def read(self, picture: Picture, of: Picture | None = None) -> Array:
        """One picture as float32 [channels, height, width].

        of: what it was opened from, if it was opened before, so that an error names the file.
        """
        image = _converted(opened(picture), "L" if self.channels == 1 else "RGB", of or picture)
        height, width = self.resize(image.height, image.width)
        if min(height, width) < 1:
            raise InputError(
                f"{_called(of or picture)} of {image.height} x {image.width} pixels is too narrow "
                f"for this model: it would become {height} x {width}"
            )
        if self.resize.mode != "none":
            image = image.resize((width, height), _filter(self.resample))
        pixels = np.asarray(image)
        if self.crop is not None:
            pixels = center_crop(pixels, self.crop)
        pixels = pixels.reshape(*pixels.shape[:2], self.channels)
        if self.order == "bgr":
            pixels = pixels[:, :, ::-1]
        values = (pixels * self.rescale - np.array(self.mean)) / np.array(self.std)
        return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)

    def shown(self, values: Array) -> Array:
        """What `read` made its values of, resized and cropped: uint8 [height, width, channels]."""
        pixels = (
            values.transpose(1, 2, 0) * np.array(self.std) + np.array(self.mean)
        ) / self.rescale
        pixels = pixels[:, :, ::-1] if self.order == "bgr" else pixels
        return np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _per_channel(value: Any, channels: int) -> tuple[float, ...]:
    values = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)]
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise ValueError(f"{len(values)} values for {channels} channels")
    return tuple(values)


def _pillow() -> Any:
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise MissingExtra("vision", "reading images") from error
    return PIL


def _filter(name: str) -> Any:
    return getattr(_pillow().Image.Resampling, name.upper())


def opened(picture: Picture) -> Image:
    """The picture as a Pillow image, upright; InputError if it is none or damaged."""
    pillow = _pillow()
    if isinstance(picture, pillow.Image.Image):
        image = picture
    elif isinstance(picture, np.ndarray):
        return _from_array(picture)
    elif isinstance(picture, (str, os.PathLike)):
        if not Path(picture).is_file():
            raise InputError(f"no image at {os.fspath(picture)}")
        image = _decoded(Path(picture))
    else:
        raise InputError(
            f"an image is a path, a Pillow image or a uint8 array, not {type(picture).__name__}"
        )
    upright: Image = pillow.ImageOps.exif_transpose(image)
    return upright


def _decoded(path: Path) -> Image:
    pillow = _pillow()
    try:
        with pillow.Image.open(path) as image:
            image.load()
            decoded: Image = image.copy()
            return decoded
    except (OSError, SyntaxError, ValueError, pillow.Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error


def _from_array(array: Array) -> Image:
    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not shape_fits or 0 in array.shape:
        raise InputError(
            f"an image array is uint8 [height, width] or [height, width, 1, 3 or 4], not "
            f"{array.dtype}{list(array.shape)}"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    image: Image = _pillow().Image.fromarray(np.ascontiguousarray(array))
    return image


def _converted(image: Image, mode: str, picture: Picture) -> Image:
    """The image with 8 bits a channel in this mode: transparency dropped, 16 bits scaled."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise InputError(
                f"{_called(picture)} has integer values outside 16 bits: convert it to 8 bits"
            )
        image = _from_array((values // 257).astype(np.uint8))
    elif image.mode == "F":
        raise InputError(
            f"{_called(picture)} holds floating-point values: convert it to 8 bits a channel"
        )
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of a direct conversion to RGB
    elif image.mode == "LAB":
        image = image.convert("RGB")  # Pillow knows no way from it to grey
    return image if image.mode == mode else image.convert(mode)


def _called(picture: Picture) -> str:
    """The path of a picture that has one."""
    return os.fspath(picture) if isinstance(picture, (str, os.PathLike)) else "the image"


def center_crop(pixels: Array, size: tuple[int, int]) -> Array:
    """The middle `size` of [h, w, ...], with zeros around what is too small."""
    for axis, wanted in enumerate(size):
        missing = wanted - pixels.shape[axis]
        if missing > 0:
            before = (missing + 1) // 2
            around = [(0, 0)] * pixels.ndim
            around[axis] = (before, missing - before)
            pixels = np.pad(pixels, around)
        start = (pixels.shape[axis] - wanted) // 2
        pixels = pixels.take(range(start, start + wanted), axis=axis)
    return pixels
