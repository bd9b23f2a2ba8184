"""What families share that read a picture: its size, its patches and its tensor."""

from __future__ import annotations

from typing import Any

from edgetfm.signature import TensorSpec

FREE = (0, 0)
"""The image_size of a config that takes pictures of any size."""


class InPatches:
    """A config of a model that cuts pictures in patches; sizes are (height, width) in pixels."""

    image_size: tuple[int, int]
    patch_size: tuple[int, int]

    @property
    def patches(self) -> int:
        """How many patches a picture has."""
        (height, width), (down, across) = self.image_size, self.patch_size
        return (height // down) * (width // across)


def picture_inputs(c: Any, task: str) -> tuple[TensorSpec, ...]:
    """A picture, preprocessed."""
    sides: tuple[int | str, ...] = ("height", "width") if c.image_size == FREE else c.image_size
    return (TensorSpec("pixel_values", "float32", ("batch", c.channels, *sides)),)
