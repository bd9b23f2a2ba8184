"""Sounds as people give them, as samples at a model's rate."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import InputError, MissingExtra

Sound = Any
"""A path, an array of samples, (array, sampling rate), or {"array": ..., "sampling_rate": ...}.

An array is [samples], or [channels, samples] or [samples, channels] with fewer channels than
samples; floats from -1 to 1, or integers of their whole range. Without a rate it has the model's.
"""

Samples = NDArray[np.float32]

_FASTEST = 2**31 - 1
"""Hertz; a file can say no more, and the resampler never ends with much more."""

_NAMES = ("array", "raw")
"""What the samples are called in an object: by datasets, and by transformers' pipelines."""


def samples_of(sound: Sound, rate: int) -> Samples:
    """One sound as [samples] at `rate` hertz, its channels mixed; InputError if it is none."""
    array, its_rate = _taken(sound, rate)
    mono, name = _mono(array), sound if isinstance(sound, (str, os.PathLike)) else "a sound"
    if not mono.size:
        raise InputError(f"{name} has no samples")
    if not np.isfinite(mono).all():
        raise InputError(f"{name} has samples that are NaN or infinite")
    return mono if its_rate == rate else _resampled(mono, its_rate, rate)


def _taken(sound: Sound, rate: int) -> tuple[NDArray[Any], int]:
    if isinstance(sound, (str, os.PathLike)):
        return _read(Path(sound))
    if isinstance(sound, np.ndarray):
        return sound, rate
    if isinstance(sound, Mapping):
        name = next((n for n in _NAMES if n in sound), None)
        if name is not None and "sampling_rate" in sound:
            return _array(sound[name]), _rate(sound["sampling_rate"])
    elif isinstance(sound, tuple) and len(sound) == 2:
        return _array(sound[0]), _rate(sound[1])
    raise InputError(
        "a sound is a path, an array of samples, (array, sampling rate), or an object with array "
        f"and sampling_rate, not {type(sound).__name__}"
    )


def _array(values: Any) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"a sound's samples are no array: {error}") from error


def _rate(value: Any) -> int:
    try:
        if int(value) == value and 0 < value <= _FASTEST:
            return int(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(
        f"a sampling rate is a positive number of hertz, at most {_FASTEST}, not {value!r:.80}"
    )


def _read(path: Path) -> tuple[NDArray[Any], int]:
    if not path.is_file():
        raise InputError(f"no sound at {path}")
    try:
        import soundfile
    except ImportError as error:
        raise MissingExtra("audio", "reading sounds") from error
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, ValueError, TypeError) as error:  # raw files need a rate
        raise InputError(f"{path} cannot be read as a sound: {error}") from error
    return samples, int(rate)


def _mono(array: NDArray[Any]) -> Samples:
    """[samples] as float32 from -1 to 1, the mean of the channels."""
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise InputError(
            "a sound's array is [samples] or [samples, channels] of floats or integers, not "
            f"{array.dtype}{list(array.shape)}"
        )
    values = array.astype(np.float64)
    if array.dtype.kind in "iu":
        half = 2.0 ** (8 * array.dtype.itemsize - 1)
        values = (values - (half if array.dtype.kind == "u" else 0.0)) / half
    if values.ndim == 2 and values.size:
        values = values.mean(axis=int(np.argmin(values.shape)))
    return np.ascontiguousarray(values, dtype=np.float32)


def _resampled(mono: Samples, its_rate: int, rate: int) -> Samples:
    """At another rate, by the SoX resampler in its usual quality, as librosa does it."""
    try:
        import soxr
    except ImportError as error:
        raise MissingExtra("audio", f"taking a sound of {its_rate} Hz to {rate} Hz") from error
    changed = np.asarray(soxr.resample(mono, its_rate, rate), dtype=np.float32)
    if not changed.size:
        raise InputError(f"a sound of {mono.size} samples at {its_rate} Hz is nothing at {rate} Hz")
    return changed
