"""The sounds that a model is proven on: parts of real ones at awkward lengths, and silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetfm.runtime.audio import AudioReader
from edgetfm.runtime.sounds import samples_of
from edgetfm.signature import Array, Feeds, Signature

SECONDS = ((1, 0.37), (2, 0.93), (3, 2.17), (1, 1.5))
"""(batch, length of the longest): the rows of a batch have different lengths."""
BATCHES = (1, 2, 3)
"""Of models that make every sound one length."""
BENCH_SECONDS = 4.0
"""Of sound, where speed is measured."""


def sound_cases(reader: AudioReader, signature: Signature, items: Sequence[Any]) -> list[Feeds]:
    """The same batches every time, made of sounds; a graph of a fixed batch gets no other."""
    fixed = signature.inputs[0].shape[0]
    waves = [samples_of(item, reader.sampling_rate) for item in items[: max(BATCHES)]]
    free = isinstance(signature.inputs[0].shape[1], str)
    wanted = SECONDS if free else [(batch, 1.3) for batch in BATCHES]
    cases = []
    for batch, seconds in wanted:
        rows = fixed if isinstance(fixed, int) else batch
        longest = max(2 * reader.least, round(seconds * reader.sampling_rate))
        longest = min(longest, reader.longest or longest)
        lengths = [longest - row * longest // (2 * rows) for row in range(rows)]
        parts = [_part(waves[i % len(waves)], length) for i, length in enumerate(lengths)]
        cases.append(reader.batch([reader.prepare(part) for part in parts]))
    if free and not isinstance(fixed, int):
        shortest = max(reader.least, reader.sampling_rate // 20)  # 50 ms: a few frames
        cases.append(reader.batch([reader.prepare(_part(waves[0], shortest))]))
    return [signature.check(feeds) for feeds in cases]


def _part(wave: Array, length: int) -> Array:
    """So many samples from the beginning, again and again if it is short."""
    return np.resize(wave, length).astype(np.float32)
