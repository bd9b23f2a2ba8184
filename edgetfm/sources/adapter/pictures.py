"""Whether pictures become the same pixels here as in transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.assets import Prepared
from edgetfm.errors import SourceError
from edgetfm.runtime.images import ImageReader
from edgetfm.signature import Array, Signature
from edgetfm.sources._reference import quiet_transformers

_TOLERANCE = 1e-4
_SIZES = ((301, 457), (93, 61))
"""Height and width of the pictures tried: larger than what models take, and smaller; no square."""


def check_pictures(folder: Path, prepared: Prepared, signature: Signature) -> None:
    """Raise a SourceError if the image processor in a folder does what ours does not.

    Processors differ in steps that their files name in many ways, so both are asked.
    """
    if not prepared.assets:
        return
    ours = ImageReader.from_settings(prepared.preprocessing["image"], signature)
    processor = _processor(folder)
    random = np.random.default_rng(0)
    for height, width in _SIZES:
        # Smooth shades: on noise every resize filter differs by a grey level somewhere.
        shades = random.integers(0, 256, (height // 30 + 2, width // 30 + 2, 3))
        picture = np.kron(shades, np.ones((30, 30, 1)))[:height, :width].astype(np.uint8)
        theirs = _asked(processor, picture, folder)
        got = ours(picture)[ours.name]
        far = got.shape != theirs.shape or float(np.abs(got - theirs).max()) > _TOLERANCE
        if far:
            raise SourceError(
                f"{folder / 'preprocessor_config.json'}: {type(processor).__name__} makes other "
                f"pixels of a picture than edgetfm does from this file (shape {theirs.shape} and "
                f"{got.shape}): such a processor is not known"
            )


def _processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    with quiet_transformers():
        try:
            return AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
        except Exception as error:  # whatever a file makes it raise
            raise SourceError(
                f"transformers cannot read {folder / 'preprocessor_config.json'}: {error}"
            ) from error


def _asked(processor: Any, picture: Array, folder: Path) -> Array:
    with quiet_transformers():
        try:
            made = processor(images=picture, return_tensors="np")
        except Exception as error:  # a missing library, or a shape it cannot take
            raise SourceError(
                f"{type(processor).__name__} of {folder} does not take a picture: {error}"
            ) from error
    if not np.asarray(made.get("pixel_mask", 1)).all():
        raise SourceError(
            f"{type(processor).__name__} of {folder} pads a single picture and masks the padding, "
            "which edgetfm does not: leave pad_size out of preprocessor_config.json"
        )
    return np.asarray(made["pixel_values"])
