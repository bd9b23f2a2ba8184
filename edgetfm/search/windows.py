"""Texts of one length for a decoder, made of texts of any."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from edgetfm.errors import DataError
from edgetfm.runtime.text import TextEncoder
from edgetfm.signature import Feeds


def windows(
    encoder: TextEncoder, items: Sequence[Any], length: int, batch: int, most: int | None = None
) -> list[Feeds]:
    """The texts one after the other, cut every `length` tokens: `most` cuts, `batch` at once.

    Items are texts, or pairs that are read one after the other. The last cut may be shorter, and
    is then left out unless it is the only one. DataError if there are fewer than two tokens.
    """
    length = min(length, encoder.max_length or length)
    texts = [" ".join(item) if isinstance(item, tuple) else str(item) for item in items]
    ids = list(chain.from_iterable(encoder.ids(f"{text}\n") for text in texts))
    if len(ids) < 2:
        raise DataError(f"{len(texts)} texts have {len(ids)} tokens: give longer ones, or more")
    cuts = [ids[i : i + length] for i in range(0, len(ids), length)][:most]
    whole = [cut for cut in cuts if len(cut) == length] or cuts[:1]
    made = []
    for i in range(0, len(whole), batch):
        array = np.array(whole[i : i + batch], np.int64)
        made.append({"input_ids": array, "attention_mask": np.ones_like(array)})
    return made
