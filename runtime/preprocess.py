"""What people give, made into the inputs of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edgetfm.errors import InputError
from edgetfm.runtime.images import ImageReader, Picture
from edgetfm.runtime.text import Text, TextEncoder
from edgetfm.signature import Feeds, Signature


@dataclass(frozen=True)
class Preprocessor:
    """Texts or pictures to feeds, equal to what transformers makes of them."""

    text: TextEncoder | None = None
    image: ImageReader | None = None

    @classmethod
    def from_folder(
        cls, folder: Path, preprocessing: Mapping[str, Any], signature: Signature
    ) -> Self:
        """The preprocessor of a bundle: `preprocessing` and `signature` are its manifest's.

        Raises BundleError if what they describe is not there or makes no sense.
        """
        text = image = None
        if "tokenizer" in preprocessing:
            text = TextEncoder(folder, preprocessing["tokenizer"], signature)
        if "image" in preprocessing:
            image = ImageReader.from_settings(preprocessing["image"], signature)
        return cls(text, image)

    def texts(self, texts: Text | Sequence[Text], *, max_length: int | None = None) -> Feeds:
        """Texts, or pairs of texts, as arrays [batch, sequence].

        Cut at max_length tokens (the special ones counted; never more than the model takes) and
        padded on the right to the longest.
        """
        return self.text_encoder(texts, max_length=max_length)

    def images(self, images: Picture | Sequence[Picture]) -> Feeds:
        """Pictures (paths, Pillow images, uint8 arrays [h, w] or [h, w, c]) as one batch."""
        return self.image_reader(images)

    @property
    def text_encoder(self) -> TextEncoder:
        """The part for texts; InputError if the model takes none."""
        if self.text is None and self.image is None:
            raise InputError("there is no tokenizer here: only arrays of token ids can be run")
        if self.text is None:
            raise InputError("this model takes no text: give images")
        return self.text

    @property
    def image_reader(self) -> ImageReader:
        """The part for pictures; InputError if the model takes none."""
        if self.image is None:
            raise InputError("this model takes no images: give text")
        return self.image
