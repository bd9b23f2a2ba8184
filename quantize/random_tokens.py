"""Token ids that were drawn at random are told from text, and refused.

Activations of random tokens have other outliers than those of text, so ranges and smoothing
chosen on them are wrong for the model's real work, and nothing shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import DataError
from edgetfm.runtime.text import TextEncoder
from edgetfm.signature import Feeds

Ids = NDArray[Any]

IDS = ("input_ids", "decoder_input_ids", "token_ids", "tokens", "ids")
"""Inputs that hold token ids."""

RETURNS = 0.94
"""The share of ids that decoding and encoding must give back. All of 724 texts come back by 0.99
and more with MiniLM's tokenizer; uniform ids, 64 a row, by 0.65 to 1 and 0.86 in the mean, for
pieces join with what happens to stand before them."""

ROWS = 32
"""Items that are decoded: the mean of as many is certain."""

LEAST = 256
"""Fewer ids tell nothing."""

LEAST_RANGE = 64
"""Nor do alphabets: the four letters of DNA are drawn almost evenly."""


def refuse_random_tokens(
    items: Sequence[Feeds], name: str, encoder: TextEncoder | None = None
) -> None:
    """Raise DataError if the token ids of `items` are not text.

    With the model's tokenizer they are decoded and encoded again, special and unknown tokens left
    out; with or without, they must repeat as words do. Inputs that hold no token ids pass.
    """
    for key in IDS:
        if key not in items[0] or items[0][key].dtype.kind not in "iu":
            continue
        rows = [_real(item, key) for item in items]
        found = "" if encoder is None else _does_not_return(rows, encoder)
        if found := found or look_drawn(_inner(rows)):
            raise DataError(
                f"{name}: '{key}' is not text: {found}. Ranges measured on random tokens are wrong "
                "for text: give texts (.txt, .csv, .jsonl, .parquet), or the ids of real ones"
            )


def look_drawn(ids: Ids) -> str:
    """Why the ids look like uniform draws from their range, '' if they do not.

    n ids drawn evenly from r have n - n^2 / 2r + ... different ones among them: of their
    n (n - 1) / 2 pairs one in r is equal, e in all, with a standard deviation of sqrt(e). Text
    repeats its words (W. F. Friedman, The Index of Coincidence, 1922): among 256 tokens of an
    English text some 300 pairs are equal where 1 would be of 30,000 ids. So ids are called drawn
    if no more pairs are equal than e + 6 sqrt(e) + 6, which text passes many times over and one
    draw in a billion does.
    """
    ids = ids.ravel()
    n = len(ids)
    if n < LEAST:
        return ""
    spread = int(ids.max()) - int(ids.min()) + 1
    if spread < LEAST_RANGE:
        return ""
    counts = np.unique(ids, return_counts=True)[1].astype(np.float64)
    equal = float((counts * (counts - 1) / 2).sum())
    expected = n * (n - 1) / 2 / spread
    if equal > expected + 6 * expected**0.5 + 6:
        return ""
    return (
        f"of {n} ids {len(counts)} are different, as many as in a uniform draw from {spread}; "
        "text repeats its words"
    )


def _real(item: Feeds, key: str) -> Ids:
    """The ids of one item that its mask does not hide."""
    mask = item.get("decoder_attention_mask" if key.startswith("decoder_") else "attention_mask")
    ids = item[key].ravel()
    fits = mask is not None and mask.size == ids.size
    return ids[np.asarray(mask).ravel().astype(bool)] if fits else ids


def _inner(rows: Sequence[Ids]) -> Ids:
    """All ids but those that every item begins, ends or is padded with: they are no draws."""
    given = [row for row in rows if len(row)]
    if not given:
        return np.zeros(0, np.int64)
    if len(given) > 1:
        for end in (0, -1):
            edges = {int(row[end]) for row in given}
            while len(edges) == 1:  # [CLS], [SEP], or padding without a mask
                (edge,) = edges
                given = [_without(row, edge, end) for row in given]
                given = [row for row in given if len(row)]
                edges = {int(row[end]) for row in given}
    return np.concatenate(given) if given else np.zeros(0, np.int64)


def _without(row: Ids, edge: int, end: int) -> Ids:
    """The row without the run of one id at its beginning (end 0) or end (-1)."""
    others = np.flatnonzero(row != edge)
    if not len(others):
        return row[:0]
    return row[others[0] :] if end == 0 else row[: others[-1] + 1]


def _does_not_return(rows: Sequence[Ids], encoder: TextEncoder) -> str:
    """Why these ids are not what the tokenizer makes of a text, '' if they are."""
    tokenizer = encoder.tokenizer
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    outside = sorted({int(i) for row in rows for i in row if not 0 <= i < size})
    if outside:
        return f"the tokenizer has {size} tokens, the ids reach from {outside[0]} to {outside[-1]}"
    left_out = {i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
    unknown = tokenizer.token_to_id(encoder.token("unk_token") or "")
    if unknown is not None:
        left_out.add(unknown)
    chosen = rows[:: max(1, len(rows) // ROWS)][:ROWS]
    shares = []
    for row in chosen:
        ids = [int(i) for i in row if int(i) not in left_out]
        if not ids:
            continue
        text = tokenizer.decode(ids, skip_special_tokens=False)
        again = [i for i in tokenizer.encode(text, add_special_tokens=False).ids
                 if i not in left_out]  # fmt: skip
        shares.append(SequenceMatcher(None, ids, again, autojunk=False).ratio())
    if not shares or (share := float(np.mean(shares))) >= RETURNS:
        return ""
    return f"decoded and encoded again, {share:.0%} of the ids are the same (text: all)"
