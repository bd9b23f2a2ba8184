"""Targets for an encoder-decoder's cases, of all lengths: they only have to be answered alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgetfm.signature import TARGET, TARGET_MASK, Feeds

LENGTHS = (7, 1, 24, 9, 16)
"""Tokens of the longest target of a case, one after the other."""


def with_targets(
    cases: Sequence[Feeds], generation: Mapping[str, Any], vocabulary: int
) -> list[Feeds]:
    """The cases with targets of many lengths, ragged where a case has several rows.

    generation: what the manifest says of special tokens and the longest text. A target begins as
    the model begins one, and has tokens of all the vocabulary behind that.
    """
    random = np.random.default_rng(0)
    longest = int(generation.get("context") or max(LENGTHS))
    made = []
    for number, case in enumerate(cases):
        rows = min(len(a) for a in case.values())
        most = min(LENGTHS[number % len(LENGTHS)], longest)
        lengths = [max(1, most - row * most // rows) for row in range(rows)]
        mask = (np.arange(most) < np.array(lengths)[:, None]).astype(np.int64)
        tokens = random.integers(0, vocabulary, (rows, most))
        tokens[:, 0] = start_of(generation)[0]
        tokens = np.where(mask, tokens, pad_of(generation))
        made.append({**case, TARGET: tokens, TARGET_MASK: mask})
    return made


def start_of(generation: Mapping[str, Any]) -> list[int]:
    """The tokens that a text begins with."""
    return [int(generation.get("decoder_start") or 0)]


def pad_of(generation: Mapping[str, Any]) -> int:
    """What fills a row behind its end."""
    return int(generation.get("pad") or 0)
