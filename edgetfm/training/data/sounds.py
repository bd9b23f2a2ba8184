"""Recordings with what is said in them: a table of audio files and texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import DataError, InputError, listed
from edgetfm.runtime.sounds import samples_of
from edgetfm.training.data.tables import PART, SHOWN, read_texts_of

COLUMNS = {
    "audio": ("audio", "file", "path", "audio_filepath"),
    "text": ("text", "sentence", "transcript", "transcription"),
}


@dataclass(frozen=True)
class Recording:
    """Samples in mono at the rate that was asked for, float32 [samples], and what is said.

    part: which part of the data it is in, where the table says so, else "".
    """

    wave: NDArray[np.float32]
    text: str
    part: str


def read_recordings(
    dataset: str, said: Mapping[str, str], rate: int, seconds: float
) -> list[Recording]:
    """The recordings of a table; a file's path is relative to the table's folder.

    rate: hertz. seconds: the longest that one may be: more would be cut, and not what is said.
    Raises DataError that names table and row.
    """
    folder = Path(dataset).parent
    found: list[Recording] = []
    problems: list[str] = []
    for place, row in enumerate(read_texts_of(dataset, COLUMNS, said), start=1):
        where = f"{dataset}, recording {place}, {row['audio']}"
        try:
            wave = samples_of(folder / row["audio"], rate)
        except InputError as error:
            problems.append(f"{where}: {error}")
            continue
        if not wave.size:
            problems.append(f"{where}: there is nothing to hear, it has no samples")
        elif wave.size > seconds * rate:
            problems.append(
                f"{where}: {wave.size / rate:.1f} s long, the model hears {seconds:g} s: cut it or "
                "give the model more frames (50 a second)"
            )
        else:
            samples = np.asarray(wave, dtype=np.float32)
            found.append(Recording(samples, row["text"], row.get(PART, "")))
    if problems:
        more = len(problems) - SHOWN
        raise DataError(listed(problems[:SHOWN] + ([f"and {more} more"] if more > 0 else [])))
    return found
