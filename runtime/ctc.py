"""What a model of speech writes: the likeliest token of each frame, as connectionist temporal
classification reads it (Graves et al., 2006): repeats are one, and blanks are nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from edgetfm.errors import BundleError
from edgetfm.signature import Array

_TIDIED = (" .", " ?", " !", " ,", " n't", " 'm", " 's", " 've", " 're")
"""Spaces before these are taken away where a tokenizer asks for it."""


@dataclass(frozen=True)
class Letters:
    """How frames become text.

    tokens: of each class. blank: the token that separates equal ones. delimiter: the token that
    stands for `space`. unknown: of classes beyond the tokens.
    """

    tokens: tuple[str, ...]
    blank: str
    delimiter: str | None = "|"
    space: str = " "
    unknown: str = "<unk>"
    lowercase: bool = False
    tidy: bool = False

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The writing that a manifest's preprocessing["ctc"] describes; BundleError otherwise."""
        try:
            letters = cls(**{**settings, "tokens": tuple(settings["tokens"])})
            words = (*letters.tokens, letters.blank, letters.space, letters.unknown)
            if not letters.tokens or not all(isinstance(word, str) for word in words):
                raise TypeError("tokens are texts")
        except (TypeError, KeyError) as error:
            raise BundleError(f"how this model writes is malformed: {error}") from error
        return letters

    def read(self, logits: Array) -> str:
        """The text of [frames, classes], by the largest of each frame."""
        return self.join(np.asarray(logits).argmax(-1))

    def join(self, classes: Array) -> str:
        """The text of a class a frame, [frames]."""
        known = len(self.tokens)
        words = [self.tokens[c] if c < known else self.unknown for c in np.asarray(classes)]
        kept = [
            word
            for before, word in zip([None, *words], words, strict=False)
            if word not in (before, self.blank)
        ]
        text = "".join(self.space if word == self.delimiter else word for word in kept).strip()
        text = text.lower() if self.lowercase else text
        if self.tidy:
            for ending in _TIDIED[:4]:
                text = text.replace(ending, ending[1:])
            text = text.replace(" ' ", "'")
            for ending in _TIDIED[4:]:
                text = text.replace(ending, ending[1:])
        return text
