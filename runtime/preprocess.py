"""What people give, made into the inputs of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgetfm.errors import InputError
from edgetfm.runtime.audio import AudioReader
from edgetfm.runtime.ctc import Letters
from edgetfm.runtime.images import ImageReader, Picture
from edgetfm.runtime.sounds import Sound, samples_of
from edgetfm.runtime.text import Text, TextEncoder
from edgetfm.senses import SENSES, SENSES_MASK, part_of
from edgetfm.signature import Feeds, Signature


@dataclass(frozen=True)
class Preprocessor:
    """Texts, pictures or sounds to feeds, equal to what transformers makes of them.

    joint: whether an item has all senses, some of which may be missing.
    """

    text: TextEncoder | None = None
    image: ImageReader | None = None
    audio: AudioReader | None = None
    letters: Letters | None = None
    joint: bool = False

    @classmethod
    def from_folder(
        cls, folder: Path, preprocessing: Mapping[str, Any], signature: Signature
    ) -> Self:
        """The preprocessor of a bundle: `preprocessing` and `signature` are its manifest's.

        Raises BundleError if what they describe is not there or makes no sense.
        """
        text = image = audio = None
        senses = tuple(name for name, sense in SENSES.items() if sense.prepared in preprocessing)
        parts = {sense: part_of(signature, sense, senses) for sense in senses}
        if "text" in parts:
            text = TextEncoder(folder, preprocessing["tokenizer"], parts["text"])
        if "image" in parts:
            image = ImageReader.from_settings(preprocessing["image"], parts["image"])
        if "audio" in parts:
            audio = AudioReader.from_settings(preprocessing["audio"], parts["audio"])
        letters = Letters.from_settings(preprocessing["ctc"]) if "ctc" in preprocessing else None
        joint = any(t.name == SENSES_MASK for t in signature.inputs)
        return cls(text, image, audio, letters, joint)

    @property
    def makes_nothing(self) -> bool:
        """Whether arrays are all that the model can be given."""
        return self.text is None and self.image is None and self.audio is None

    def inputs(self, senses: Sequence[str], items: Sequence[Any]) -> Feeds:
        """Items as one batch for a model of these senses.

        An item is what its sense is given (a text, a picture); of a model of several senses it is
        a tuple, a part for each in their order. Of a model that takes a mask of senses a part may
        be None: it is missing.
        """
        if self.joint:
            return self._together(senses, items)
        ways: dict[str, Callable[[Any], Feeds]] = {
            "text": self.texts,
            "image": self.images,
            "audio": self.sounds,
        }
        parts = [items] if len(senses) == 1 else list(zip(*items, strict=True))
        feeds: Feeds = {}
        for sense, part in zip(senses, parts, strict=True):
            feeds |= ways[sense](list(part))
        return feeds

    def _together(self, senses: Sequence[str], items: Sequence[Any]) -> Feeds:
        """Inputs of all senses, and the mask of those that are there; nothing stands for others."""
        parts = dict(zip(senses, zip(*items, strict=True), strict=True))
        there = np.array([[part is not None for part in item] for item in items], np.int64)
        feeds = self.texts(["" if text is None else text for text in parts["text"]])
        reader, ears = self.image_reader, self.audio_reader
        blank = np.zeros((*reader.usual_size, 3), np.uint8)
        feeds |= self.images([blank if image is None else image for image in parts["image"]])
        silence = np.zeros(max(1, ears.least), np.float32)
        sounds = [
            silence if s is None else samples_of(s, ears.sampling_rate) for s in parts["audio"]
        ]
        return {**feeds, **ears.batch([ears.prepare(s) for s in sounds]), SENSES_MASK: there}

    def texts(self, texts: Text | Sequence[Text], *, max_length: int | None = None) -> Feeds:
        """Texts, or pairs of texts, as arrays [batch, sequence].

        Cut at max_length tokens (the special ones counted; never more than the model takes) and
        padded on the right to the longest.
        """
        return self.text_encoder(texts, max_length=max_length)

    def images(self, images: Picture | Sequence[Picture]) -> Feeds:
        """Pictures (paths, Pillow images, uint8 arrays [h, w] or [h, w, c]) as one batch."""
        return self.image_reader(images)

    def sounds(self, sounds: Sound | Sequence[Sound]) -> Feeds:
        """Sounds (paths, arrays, (array, sampling rate)) as one batch, padded to the longest."""
        return self.audio_reader(sounds)

    @property
    def text_encoder(self) -> TextEncoder:
        """The part for texts; InputError if the model takes none."""
        if self.makes_nothing:
            raise InputError("there is no tokenizer here: only arrays of token ids can be run")
        if self.text is None:
            raise InputError(f"this model takes no text: give {self._taken}")
        return self.text

    @property
    def image_reader(self) -> ImageReader:
        """The part for pictures; InputError if the model takes none."""
        if self.image is None:
            raise InputError(f"this model takes no images: give {self._taken}")
        return self.image

    @property
    def audio_reader(self) -> AudioReader:
        """The part for sounds; InputError if the model takes none."""
        if self.audio is None:
            raise InputError(f"this model takes no sounds: give {self._taken}")
        return self.audio

    @property
    def _taken(self) -> str:
        """What it is given, in words."""
        parts = {"text": self.text, "images": self.image, "sounds": self.audio}
        return " and ".join(name for name, part in parts.items() if part is not None) or "arrays"
