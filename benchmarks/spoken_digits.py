"""Strings of digits as espeak-ng speaks them: a table of recordings to train a Whisper on.

    apt-get install espeak-ng    # or a build of your own: --espeak PROGRAM
    python benchmarks/spoken_digits.py digits

Writes digits/clips.csv with the columns `audio`, `text`, `part`, `voice` and `speed`, and the
recordings beside it; the rows of the test are in clips-test.csv once more. Which part a voice, a
speed and a text are in follows from a hash of each: what is judged by is said by voices, at speeds
and in strings that no training clip has. The same seed and the same espeak-ng give the same
recordings.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgetfm.training.data.parts import Part, Shares

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LEAST, MOST = 3, 7
"""Digits of a clip."""
CLIPS = 6000
RATE = 16_000
SHARES = Shares(validation=0.05, test=0.1)
ACCENTS = (
    *("en-us", "en-gb", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
    *("en-029", "en-us-nyc"),
)
VOICES = (
    *(f"m{i}" for i in range(1, 9)),
    *(f"f{i}" for i in range(1, 6)),
    *("klatt", "klatt2", "klatt3", "klatt4", "Alex", "Alicia", "Andrea", "Andy", "Annie"),
    *("Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario"),
    *("Michael", "Mike", "Mr serious", "Nguyen", "adam", "anika", "announcer", "antonio"),
    *("aunty", "belinda", "benjamin", "boris", "caleb", "david", "ed", "edward", "edward2"),
    *("grandma", "grandpa", "gustave", "iven", "iven2", "iven3", "iven4", "john", "linda"),
    *("marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy"),
    *("rob", "robert", "sandro", "shelby", "steph", "steph2", "steph3", "travis", "victor", "zac"),
)
"""espeak-ng's voices that sound like people: no robots, whispers and effects."""
SPEEDS = tuple(range(130, 221))
"""Words a minute."""
PITCHES = (25, 75)
LOUDNESS, NOISE = (0.15, 0.9), (-70.0, -35.0)
"""Of the loudest sample; of white noise in decibels below full scale."""

T = TypeVar("T")


@dataclass(frozen=True)
class Clip:
    """What is said and how."""

    part: Part
    text: str
    accent: str
    voice: str
    speed: int
    pitch: int
    loudness: float
    noise: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the table and the recordings go")
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--espeak", default="espeak-ng", help="the program")
    options = parser.parse_args()
    if shutil.which(options.espeak) is None:
        raise SystemExit(f"no program '{options.espeak}': install espeak-ng, or say --espeak PATH")
    options.folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(options.seed)
    clips = [drawn(random) for _ in range(options.clips)]
    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(lambda clip: write(options.espeak, clip, options.folder), clips))
    rows = list(zip(names, clips, strict=True))
    test = [row for row in rows if row[1].part == "test"]
    write_table(options.folder / "clips.csv", rows)
    write_table(options.folder / "clips-test.csv", test)
    print(f"{len(rows)} clips, {len(test)} of them to test", file=sys.stderr)


def write_table(path: Path, rows: list[tuple[str, Clip]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("audio", "text", "part", "voice", "speed"))
        for name, clip in rows:
            voice = f"{clip.accent}+{clip.voice}"
            table.writerow((name, clip.text, clip.part, voice, clip.speed))


def drawn(random: np.random.Generator) -> Clip:
    """A clip whose voice, speed and text are all in the part of its voice."""
    voice = VOICES[random.integers(len(VOICES))]
    part = SHARES.part_of(voice.encode())
    return Clip(
        part=part,
        text=_within(part, lambda: _digits(random)),
        accent=ACCENTS[random.integers(len(ACCENTS))],
        voice=voice,
        speed=_within(part, lambda: int(random.choice(SPEEDS))),
        pitch=int(random.integers(*PITCHES)),
        loudness=float(random.uniform(*LOUDNESS)),
        noise=float(10 ** (random.uniform(*NOISE) / 20)),
    )


def _digits(random: np.random.Generator) -> str:
    return " ".join(WORDS[i] for i in random.integers(10, size=random.integers(LEAST, MOST + 1)))


def _within(part: Part, draw: Callable[[], T]) -> T:
    """The first that is drawn of those in a part."""
    while SHARES.part_of(str(found := draw()).encode()) != part:
        pass
    return found


def write(espeak: str, clip: Clip, folder: Path) -> str:
    """Speak a clip into a file; its name, which follows from what is said and how."""
    import soundfile

    name = hashlib.sha256(repr(clip).encode()).hexdigest()[:16]
    wave = spoken(espeak, clip)
    wave *= clip.loudness / (np.abs(wave).max() + 1e-9)
    noise = np.random.default_rng(int(name, 16)).normal(0, clip.noise, len(wave))
    soundfile.write(folder / f"{name}.flac", (wave + noise).clip(-1, 1), RATE)
    return f"{name}.flac"


def spoken(espeak: str, clip: Clip) -> NDArray[np.float64]:
    """espeak-ng's samples at RATE hertz."""
    import soundfile
    import soxr

    voice = ("-v", f"{clip.accent}+{clip.voice}", "-s", str(clip.speed), "-p", str(clip.pitch))
    made = subprocess.run(
        [espeak, *voice, "--stdout", clip.text], capture_output=True, check=True
    ).stdout
    wave, rate = soundfile.read(io.BytesIO(made))
    found: NDArray[np.float64] = soxr.resample(wave, rate, RATE)
    return found


if __name__ == "__main__":
    main()
