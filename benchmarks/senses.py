"""Digits that are seen, heard and read, each badly: rows to train a model of several senses on.

    apt-get install espeak-ng    # or a build of your own: --espeak PROGRAM
    python benchmarks/senses.py digits.npz

A picture is one of scikit-learn's handwritten digits with half of it covered, a sound is its name
as espeak-ng speaks it, in noise, a text is its name with most letters missing: `* e * e *`. Each
alone leaves several digits possible. Pictures and voices that judge are in no row to train on; the
same seed and the same espeak-ng give the same rows.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetfm.training.data.parts import Part, Shares

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOICES = (
    *(f"en-us+m{i}" for i in range(1, 9)),
    *(f"en-gb+f{i}" for i in range(1, 6)),
    *("en-us+klatt", "en-gb+klatt2", "en-us+klatt3", "en-gb-scotland", "en-gb-x-rp", "en-029"),
    *("en-us+Annie", "en-us+Denis", "en-gb+Alex", "en-gb+Andy", "en-us+linda", "en-gb+john"),
)
JUDGES: dict[str, Part] = {"en-us+m3": "validation", "en-gb+f2": "validation"} | dict.fromkeys(
    ("en-us+m6", "en-gb+f4", "en-gb-scotland", "en-us+linda"), "test"
)
SPEEDS = (140, 180, 220)
RATE, SAMPLES = 16_000, 16_000
NOISE = (-4.0, 4.0)
"""The speech above the noise, in decibels."""
READ = 1
"""Letters of a word that are left."""
TIMES = 3
"""Rows of each picture."""
SHARES = Shares(validation=0.1, test=0.2)


def spoken(program: str, word: str, voice: str, speed: int) -> NDArray[np.float32]:
    """One second of a word, float32 at RATE, from -1 to 1."""
    command = [program, "-v", voice, "-s", str(speed), "--stdout", word]
    try:
        made = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{' '.join(command)} failed: {error}; give the program with --espeak")
    with wave.open(io.BytesIO(made)) as file:  # streamed: the header does not know the length
        rate, frames = file.getframerate(), file.readframes(10 * file.getframerate())
    found = np.frombuffer(frames, "<i2").astype(np.float32) / 32768
    places = np.arange(round(len(found) * RATE / rate)) * rate / RATE
    found = np.interp(places, np.arange(len(found)), found).astype(np.float32)
    return np.pad(found[:SAMPLES], (0, max(0, SAMPLES - len(found))))


def in_noise(clip: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.int16]:
    """The clip somewhere in its second, with white noise about as loud as itself."""
    power = float((clip**2).sum() / max(1, np.count_nonzero(clip)))
    noise = np.sqrt(power / 10 ** (random.uniform(*NOISE) / 10)) * random.standard_normal(SAMPLES)
    mixed = np.roll(clip, int(random.integers(0, SAMPLES // 8))) + noise
    return (mixed / np.abs(mixed).max() * 32000).astype(np.int16)


def covered(picture: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """One half of it is grey."""
    hidden = picture.copy()
    side, half = int(random.integers(4)), len(picture) // 2
    place = [np.s_[:half], np.s_[half:], np.s_[:, :half], np.s_[:, half:]][side]
    hidden[place] = 128
    return hidden


def half_read(word: str, random: np.random.Generator) -> str:
    """The word with all but READ of its letters missing."""
    kept = set(random.choice(len(word), READ, replace=False).tolist())
    return " ".join(letter if i in kept else "*" for i, letter in enumerate(word))


def main() -> None:
    """Write what the first lines of this file say."""
    from sklearn.datasets import load_digits

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--espeak", default="espeak-ng")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    clips: dict[tuple[Part, int], list[NDArray[np.float32]]] = {}
    for number, word in enumerate(WORDS):
        for voice in VOICES:
            for speed in SPEEDS:
                clip = spoken(given.espeak, word, voice, speed)
                clips.setdefault((JUDGES.get(voice, "train"), number), []).append(clip)
    digits = load_digits()
    pictures = (digits.images * (255 / 16)).round().astype(np.uint8)
    random = np.random.default_rng(given.seed)
    images, sounds, texts, labels, parts = [], [], [], [], []
    for picture, number in zip(pictures, digits.target.tolist(), strict=True):
        part = SHARES.part_of(picture.tobytes())
        for _ in range(TIMES):
            said = clips[part, number]
            images.append(covered(picture, random))
            sounds.append(in_noise(said[int(random.integers(len(said)))], random))
            texts.append(half_read(WORDS[number], random))
            labels.append(WORDS[number])
            parts.append(part)
    np.savez_compressed(
        given.output,
        images=np.stack(images),
        sounds=np.stack(sounds),
        texts=np.array(texts),
        labels=np.array(labels),
        part=np.array(parts),
    )


if __name__ == "__main__":
    main()
