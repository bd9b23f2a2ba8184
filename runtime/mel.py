"""Log-mel spectra of sounds in numpy, as transformers' feature extractors compute them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgetfm.errors import BundleError, InputError

Floats = NDArray[np.float64]

WINDOWS = ("hann", "povey")
SCALES = ("slaney", "htk", "kaldi")
LOGS = ("log10", "ln", "db")
MOST_BINS = 4096
"""Bins and points of a Fourier transform beyond which a manifest is malformed."""


@dataclass(frozen=True)
class LogMel:
    """The energies of a sound in `bins` bands, [frames, bins], as logarithms.

    Lengths count samples. window: of `length`, `periodic` or symmetric. centered: frame t is
    centered on sample t * hop, the sound mirrored at both ends; else only whole frames count.
    scale: what samples are multiplied by. remove_mean, preemphasis: of each frame, as Kaldi does
    it. low, high: hertz. mel_scale: slaney, htk or kaldi. equal_area: each band divided by its
    width in hertz. in_mel: bands are triangles over mel, not over hertz. floor: the least energy.
    """

    sampling_rate: int
    window: str
    length: int
    hop: int
    fft: int
    bins: int
    low: float
    high: float
    mel_scale: str
    log: str
    floor: float
    periodic: bool = True
    centered: bool = True
    scale: float = 1.0
    remove_mean: bool = False
    preemphasis: float = 0.0
    equal_area: bool = False
    in_mel: bool = False

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], sampling_rate: int) -> Self:
        """The spectrum that a manifest's preprocessing["audio"]["mel"] describes; BundleError."""
        try:
            found = cls(sampling_rate=sampling_rate, **settings)
            sizes = [found.length, found.hop, found.fft, found.bins]
            fits = all(isinstance(n, int) and 0 < n <= MOST_BINS for n in sizes)
            fits = fits and found.length <= found.fft and found.floor > 0
            fits = fits and 0 <= found.low < found.high and found.bins <= found.fft
            known = found.window in WINDOWS and found.mel_scale in SCALES and found.log in LOGS
        except TypeError as error:
            raise BundleError(f"the audio preprocessing's mel is malformed: {error}") from error
        if not fits or not known:
            raise BundleError(
                f"the audio preprocessing's mel is malformed: {settings}; known are the windows "
                f"{', '.join(WINDOWS)}, the scales {', '.join(SCALES)} and the logarithms "
                f"{', '.join(LOGS)}"
            )
        return found

    def __call__(self, sound: NDArray[Any]) -> Floats:
        """[samples] to [frames, bins]; InputError for a sound shorter than one frame."""
        wave = np.asarray(sound, dtype=np.float64) * self.scale
        if self.centered:
            if wave.size <= self.length // 2:  # there is not enough to be mirrored
                raise InputError(_too_short(wave.size, self.length // 2 + 1))
            wave = np.pad(wave, self.length // 2, mode="reflect")
        if wave.size < self.length:
            raise InputError(_too_short(wave.size, self.length))
        frames = sliding_window_view(wave, self.length)[:: self.hop]
        if self.remove_mean:
            frames = frames - frames.mean(axis=1, keepdims=True)
        if self.preemphasis:
            first = frames[:, :1] * (1 - self.preemphasis)
            frames = np.hstack([first, frames[:, 1:] - self.preemphasis * frames[:, :-1]])
        spectrum = np.fft.rfft(frames * self._window, n=self.fft, axis=1)
        energies = np.maximum((np.abs(spectrum) ** 2) @ self._bands, self.floor)
        if self.log == "ln":
            return np.asarray(np.log(energies))
        return np.asarray(np.log10(energies) * (10.0 if self.log == "db" else 1.0))

    def followed_by_silence(self, sound: NDArray[Any], samples: int) -> Floats:
        """The frames of a sound that zeros make `samples` long, as `__call__` gives them.

        Frames of silence alone are alike: of them one is computed, however many there are.
        """
        sound = np.asarray(sound)
        heard = -(-(sound.size + self.length) // self.hop) + 1  # frames that touch the sound
        enough = heard * self.hop + 2 * self.length
        if samples <= enough or self.remove_mean or self.preemphasis:
            return self(np.pad(sound, (0, samples - sound.size)))
        frames = self(np.pad(sound, (0, enough - sound.size)))
        span = samples if self.centered else samples - self.length
        missing = span // self.hop + 1 - len(frames)
        return np.pad(frames, ((0, missing), (0, 0)), mode="edge")

    @cached_property
    def _window(self) -> Floats:
        window = np.hanning(self.length + 1)[:-1] if self.periodic else np.hanning(self.length)
        # Kaldi's own window, which is flatter: https://kaldi-asr.org/doc/feature-window_8h.html
        return np.asarray(window**0.85 if self.window == "povey" else window)

    @cached_property
    def _bands(self) -> Floats:
        """How much of each frequency is in each band, [fft // 2 + 1, bins]."""
        low, high = (
            float(to_mel(np.array([hz]), self.mel_scale)[0]) for hz in (self.low, self.high)
        )
        edges = np.linspace(low, high, self.bins + 2, dtype=np.float64)
        at = np.arange(self.fft // 2 + 1, dtype=np.float64) * (self.sampling_rate / self.fft)
        hertz = from_mel(edges, self.mel_scale)
        corners, points = (edges, to_mel(at, self.mel_scale)) if self.in_mel else (hertz, at)
        widths = np.diff(corners)
        from_left = (points[:, None] - corners[None, :-2]) / widths[:-1]
        from_right = (corners[None, 2:] - points[:, None]) / widths[1:]
        bands = np.maximum(0.0, np.minimum(from_left, from_right))
        return np.asarray(bands * 2.0 / (hertz[2:] - hertz[:-2]) if self.equal_area else bands)


def _too_short(samples: int, least: int) -> str:
    return f"a sound of {samples} samples is too short: the model needs {least} or more"


_LINEAR_HZ = 200.0 / 3  # Slaney's scale: linear up to 1000 Hz (15 mel), logarithmic above
_LOG_STEP = np.log(6.4) / 27.0


def to_mel(hertz: Floats, scale: str) -> Floats:
    """Frequencies on a mel scale; slaney is that of the Auditory Toolbox, htk O'Shaughnessy's."""
    if scale != "slaney":
        return np.asarray(_ROUND[scale] * np.log1p(hertz / 700.0))
    above = 15.0 + np.log(np.maximum(hertz, 1000.0) / 1000.0) / _LOG_STEP
    return np.where(hertz < 1000.0, hertz / _LINEAR_HZ, above)


def from_mel(mel: Floats, scale: str) -> Floats:
    """The inverse of `to_mel`."""
    if scale != "slaney":
        return np.asarray(700.0 * np.expm1(mel / _ROUND[scale]))
    above = 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * _LOG_STEP)
    return np.where(mel < 15.0, mel * _LINEAR_HZ, above)


_ROUND = {"htk": 2595.0 / np.log(10.0), "kaldi": 1127.0}
"""Mel for each factor of e, as the two toolkits round it."""
