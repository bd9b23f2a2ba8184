"""Image classification: a label for each picture."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgetfm.training.config import TrainConfig
from edgetfm.training.data.images import (
    MEAN,
    STD,
    Dataset,
    Images,
    Split,
    load_dataset,
    pixel_values,
    shifted,
)
from edgetfm.training.data.parts import Part
from edgetfm.training.objectives._objective import Batch, DataFacts, Rows

MEASURE = "accuracy"
SAMPLES = 256
"""The most validation images in sample.npz, for calibration; test images are never among them."""
EXAMPLES = 5


class Pictures:
    """Images of one size, each with one of the labels."""

    measure = MEASURE

    def __init__(self, config: TrainConfig) -> None:
        self.shift = config.shift
        size = config.model.get("image_size")
        pair = tuple(size) if isinstance(size, list | tuple) and len(size) == 2 else None
        channels = config.model.get("channels", 3)
        self.images = load_dataset(config.dataset, pair, channels, config.shares)
        self.labels = self.images.labels
        self.data = DataFacts(
            self.images.name,
            self.images.fingerprint,
            len(self.images.train),
            len(self.images.validation),
            len(self.images.test),
        )

    def follows(self) -> Mapping[str, Any]:
        """The size of the images and the number of labels."""
        data = self.images
        return {
            "image_size": (data.height, data.width),
            "channels": data.channels,
            "labels": len(data.labels),
        }

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """Pictures as they are, in training moved by a few pixels."""
        split: Split = getattr(self.images, part)
        images = split.images[rows]
        if random is not None:
            images = shifted(images, self.shift, random)
        return Batch({"pixel_values": pixel_values(images)}, split.labels[rows])

    def lengths(self, part: Part) -> None:
        """All pictures are of one size."""

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """How pictures are made ready, validation pictures with their labels, a few to try."""
        sample = io.BytesIO()
        arrays: dict[str, Any] = {
            inputs[0]: pixel_values(self.images.validation.images[:SAMPLES]),
            "labels": self.images.validation.labels[:SAMPLES],
        }
        np.savez(sample, **arrays)
        data = self.images
        return {
            "preprocessor_config.json": preprocessor(data.height, data.width, data.channels),
            "sample.npz": sample.getvalue(),
            **_examples(self.images),
        }


def preprocessor(height: int, width: int, channels: int) -> bytes:
    """preprocessor_config.json, in the keys that transformers' image processors know."""
    said = {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_grayscale": channels == 1,
        "do_convert_rgb": channels == 3,
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * channels,
        "image_std": [STD] * channels,
    }
    return (json.dumps(said, indent=2) + "\n").encode()


def _examples(data: Dataset) -> dict[str, bytes]:
    """A few test pictures to try the model on, named after their labels; none without Pillow."""
    pictures = {}
    for i in range(min(EXAMPLES, len(data.test))):
        label = "".join(c if c.isalnum() else "_" for c in data.labels[data.test.labels[i]])
        pictures[f"examples/{i}-label-{label}.png"] = data.test.images[i]
    return pngs(pictures)


def pngs(images: Mapping[str, Images]) -> dict[str, bytes]:
    """Images [height, width, channels] as files; none without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return {}
    files = {}
    for name, pixels in images.items():
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
        files[name] = buffer.getvalue()
    return files
