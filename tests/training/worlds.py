"""Small worlds to learn: texts, labels and pairs with rules that a tiny model finds in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

ANIMALS = ("cat", "dog", "horse", "goat", "hen", "duck")
VERBS = ("sees", "hears", "likes", "follows")
GOOD = ("fine", "great", "lovely", "good")
BAD = ("awful", "bad", "poor", "sad")


def sentences(count: int, seed: int = 0) -> list[str]:
    """`the A V the B`, where the verb follows from the first animal."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        first, second = random.integers(0, len(ANIMALS), size=2)
        made.append(f"the {ANIMALS[first]} {VERBS[first % 4]} the {ANIMALS[second]}")
    return made


def text_folder(folder: Path, files: int = 40, lines: int = 30) -> Path:
    """A folder of .txt files, each a text of its own."""
    folder.mkdir(parents=True)
    for i in range(files):
        (folder / f"{i}.txt").write_text(" . ".join(sentences(lines, seed=i)) + " .\n")
    return folder


def judged_texts(path: Path, count: int = 400) -> Path:
    """Texts with a good or a bad word among others, and which of both it is: a .jsonl file."""
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for i, sentence in enumerate(sentences(count)):
        good = bool(random.integers(0, 2))
        word = random.choice(GOOD if good else BAD)
        rows.append(
            {"text": f"{sentence} {i} and it is {word}", "label": "good" if good else "bad"}
        )
    return write_rows(path, rows)


def turned_pairs(path: Path, count: int = 600) -> Path:
    """Letters, and the same letters backwards: a .jsonl file."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        letters = random.choice(list("abcdef"), size=random.integers(2, 5))
        rows.append({"source": " ".join(letters), "target": " ".join(letters[::-1])})
    return write_rows(path, rows)


def spoken_tones(folder: Path, count: int = 160) -> Path:
    """Half a second of one or two tones each, and their names: a .csv file and .wav files."""
    import wave

    random = np.random.default_rng(0)
    tones = {"low": 300.0, "middle": 900.0, "high": 2700.0}
    folder.mkdir(parents=True)
    lines = ["audio,text"]
    time = np.arange(4000) / 16_000
    for i in range(count):
        names = random.choice(list(tones), size=random.integers(1, 3))
        parts = [np.sin(2 * np.pi * tones[name] * time + random.random()) for name in names]
        sound = 0.3 * np.concatenate(parts) + 0.01 * random.standard_normal(4000 * len(names))
        with wave.open(str(folder / f"{i}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((sound * 32767).astype("<i2").tobytes())
        lines.append(f"{i}.wav,{' '.join(names)}")
    (folder / "tones.csv").write_text("\n".join(lines) + "\n")
    return folder / "tones.csv"


HALVES = ("above", "below", "left", "right")


def half_bright(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures uint8 [count, 16, 16], one half of each bright, and which of HALVES."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, len(HALVES), count)
    images = random.integers(0, 80, (count, 16, 16))
    places = (np.s_[:8], np.s_[8:], np.s_[:, :8], np.s_[:, 8:])
    for image, kind in zip(images, kinds, strict=True):
        image[places[kind]] += 150
    return images.astype(np.uint8), kinds


def told_pictures(path: Path, count: int = 400) -> Path:
    """Pictures with one half bright, and two texts about each kind: a .npz file."""
    images, kinds = half_bright(count)
    texts = np.array([[f"it is bright {half}", half] for half in HALVES])
    np.savez(path, images=images, texts=texts, kind=kinds)
    return path


def sensed_numbers(path: Path, count: int = 320) -> Path:
    """A word, a bright half and a tone, each of which leaves two labels: a .npz file.

    The word says whether it is of the first two, the picture and the tone whether it is even.
    """
    random = np.random.default_rng(0)
    numbers = random.integers(0, 4, count)
    images, _ = half_bright(count)
    images[:] = random.integers(0, 80, images.shape)
    time = np.arange(16_000) / 16_000
    sounds = np.empty((count, 16_000), np.int16)
    for i, number in enumerate(numbers):
        half = np.s_[:8] if number % 2 else np.s_[8:]
        images[i][half] += 150
        tone = np.sin(2 * np.pi * (2700.0 if number % 2 else 300.0) * time + random.random())
        sounds[i] = (tone * 9000 + random.normal(0, 900, 16_000)).astype(np.int16)
    texts = np.array(["small" if number < 2 else "large" for number in numbers])
    labels = np.array([f"number {number}" for number in numbers])
    np.savez(path, images=images, sounds=sounds, texts=texts, labels=labels)
    return path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
