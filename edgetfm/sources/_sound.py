"""Whether sounds become the same inputs here as in transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgetfm import samples
from edgetfm.assets import Prepared
from edgetfm.errors import InputError, SourceError
from edgetfm.runtime.audio import AudioReader
from edgetfm.signature import Array, Signature
from edgetfm.sources._reference import quiet_transformers

_TOLERANCE = 1e-4
_SECONDS = (0.6, 2.35)
"""Lengths of the sounds tried: neither is a whole number of frames."""


def check_sounds(folder: Path, prepared: Prepared, signature: Signature) -> None:
    """Raise a SourceError if the feature extractor in a folder does what ours does not."""
    if "audio" not in prepared.preprocessing:
        return
    ours = AudioReader.from_settings(prepared.preprocessing["audio"], signature)
    extractor = _extractor(folder)
    for number, seconds in enumerate(_SECONDS):
        # What is too long is cut by both, by some extractors at random.
        sound = samples.speech(number, seconds, ours.sampling_rate)[: ours.longest]
        theirs = _asked(extractor, ours.name, sound, ours.sampling_rate, folder)
        try:
            got = ours(sound)[ours.name]
        except InputError as error:
            raise SourceError(f"{folder}: a sound of {seconds} s: {error}") from error
        if got.shape != theirs.shape or float(np.abs(got - theirs).max()) > _TOLERANCE:
            raise SourceError(
                f"{folder}: {type(extractor).__name__} makes other inputs of a sound than edgetfm "
                f"does from its settings (shape {theirs.shape} and {got.shape}): such a feature "
                "extractor is not known"
            )


def _extractor(folder: Path) -> Any:
    from transformers import AutoFeatureExtractor

    with quiet_transformers():
        try:
            return AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # whatever a file makes it raise
            raise SourceError(
                f"transformers cannot read the feature extractor of {folder}: {error}"
            ) from error


def _asked(extractor: Any, name: str, sound: Array, rate: int, folder: Path) -> Array:
    with quiet_transformers():
        try:
            made = extractor(sound, sampling_rate=rate, return_tensors="np")
            return np.asarray(made[name])
        except Exception as error:  # a missing library, or a length it cannot take
            raise SourceError(
                f"{type(extractor).__name__} of {folder} does not take a sound: {error}"
            ) from error
