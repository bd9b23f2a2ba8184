"""Generated sounds: vowels, hisses, bursts and pauses in the rhythm of speech, always the same.

They have the harmonics, formants, onsets and silences that wave and mel models look at, which
plain noise does not, and belong to nobody. A glottal pulse train shaped by resonances is the
usual model of a voice (G. Fant, Acoustic Theory of Speech Production, 1960).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
_Wave = NDArray[np.float64]

COUNT = 48
RATE = 16_000
SECONDS = (1.0, 4.0)
"""The shortest and the longest of `sounds`: long enough for a word, short enough to quantize on."""

# The first three formants of vowels in hertz, after Peterson and Barney (1952): men's voices.
_VOWELS = (
    (270, 2290, 3010),
    (390, 1990, 2550),
    (530, 1840, 2480),
    (660, 1720, 2410),
    (730, 1090, 2440),
    (570, 840, 2410),
    (440, 1020, 2240),
    (300, 870, 2240),
)
_WIDTHS = (80.0, 110.0, 160.0)
"""Of the formants in hertz."""
_KNOTS = 9


def sounds(count: int = COUNT, rate: int = RATE) -> list[Samples]:
    """`count` sounds [samples] at `rate` hertz, of different lengths, voices and loudness."""
    shortest, longest = SECONDS
    lengths = np.random.default_rng(0).permutation(np.linspace(shortest, longest, count))
    return [speech(number, float(seconds), rate) for number, seconds in enumerate(lengths)]


def speech(number: int, seconds: float, rate: int = RATE) -> Samples:
    """One sound [samples], from -1 to 1: syllables of voice `number`, with pauses between."""
    random = np.random.default_rng(number)
    wanted = max(1, round(seconds * rate))
    pitch, size = random.uniform(80, 260), random.uniform(0.95, 1.2)
    parts: list[_Wave] = [np.zeros(int(rate * random.uniform(0.01, 0.1)))]
    while sum(map(len, parts)) < wanted:
        parts += _syllable(random, rate, pitch * random.uniform(0.85, 1.2), size)
        if random.random() < 0.2:
            parts.append(np.zeros(int(rate * random.uniform(0.05, 0.35))))
    wave = np.concatenate(parts)[:wanted]
    room = random.normal(0, 10 ** random.uniform(-4.5, -2.5), wanted)
    loudness = 10 ** random.uniform(-1.5, -0.2)
    return (loudness * wave + room).clip(-1, 1).astype(np.float32)


def _syllable(random: np.random.Generator, rate: int, pitch: float, size: float) -> list[_Wave]:
    """A consonant, if there is one, and a vowel that glides into another."""
    kind = random.random()
    parts: list[_Wave] = []
    if kind < 0.4:
        parts.append(_hiss(random, rate, random.uniform(0.04, 0.14)))
    elif kind < 0.7:
        parts.append(np.zeros(int(rate * random.uniform(0.02, 0.06))))  # closed before a burst
        parts.append(3 * _hiss(random, rate, random.uniform(0.008, 0.02)))
    parts.append(_vowel(random, rate, pitch, size))
    return parts


def _hiss(random: np.random.Generator, rate: int, seconds: float) -> _Wave:
    """Noise around one frequency, as in s, f and sh."""
    count = max(8, int(rate * seconds))
    spectrum = np.fft.rfft(random.normal(size=count))
    hertz = np.fft.rfftfreq(count, 1 / rate)
    center, width = random.uniform(1500, 6500), random.uniform(500, 2500)
    shaped = np.fft.irfft(spectrum * np.exp(-0.5 * ((hertz - center) / width) ** 2), count)
    return _faded(0.25 * shaped / (np.abs(shaped).max() + 1e-9), rate)


def _vowel(random: np.random.Generator, rate: int, pitch: float, size: float) -> _Wave:
    """Harmonics of a gliding pitch, as loud as the formants between two vowels make them."""
    count = int(rate * random.uniform(0.07, 0.28))
    along = np.linspace(0, 1, count)
    hertz = pitch * (1 + random.uniform(-0.15, 0.15) * along)
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    first, last = (size * np.array(_VOWELS[i]) for i in random.integers(0, len(_VOWELS), 2))
    knots = np.linspace(0, 1, _KNOTS)  # loudness changes slowly between them
    formants = first[:, None] + (last - first)[:, None] * knots
    wave = np.zeros(count)
    for harmonic in range(1, int(0.45 * rate / pitch / 1.2)):
        at = harmonic * np.interp(knots, along, hertz)
        resonances = [1 / (1 + ((at - f) / w) ** 2) for f, w in zip(formants, _WIDTHS, strict=True)]
        loud = np.interp(along, knots, np.sum(resonances, axis=0)) / harmonic
        wave += loud * np.sin(harmonic * phase)
    return _faded(wave / (np.abs(wave).max() + 1e-9), rate)


def _faded(wave: _Wave, rate: int) -> _Wave:
    """Without clicks at the ends."""
    edge = min(len(wave) // 2, max(1, rate // 100))
    ramp = np.ones(len(wave))
    ramp[:edge] = np.linspace(0, 1, edge)
    ramp[len(wave) - edge :] = np.linspace(1, 0, edge)
    return wave * ramp
