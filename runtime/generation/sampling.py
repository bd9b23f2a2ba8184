"""The next token of each row, picked from its logits.

The rules and their order are transformers': repetition penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetfm.errors import BundleError
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.signature import Array

_FIRST_LOOK = 256
"""How many of the likeliest tokens top-p looks at first: they nearly always hold the share."""
_SHARPEST = 1e20
"""What a temperature near 0 multiplies logits by: in float32 any number, and 0 stays 0."""
_BLOCK = 64
"""Logits and weights are looked at by blocks of about so many first."""


class Sampler:
    """Picks the tokens of one row; its draws depend on nothing but the seed and its number.

    number: tells the answers to one prompt apart that share a seed.
    """

    def __init__(
        self, options: GenerationOptions, prompt: Sequence[int], *, number: int = 0
    ) -> None:
        self.options = options
        entropy = None if options.seed is None else (options.seed, number)
        self._random = np.random.default_rng(entropy) if options.do_sample else None
        self._seen = _Seen(prompt) if options.repetition_penalty != 1.0 else None
        self._picked = 0

    @property
    def is_plain(self) -> bool:
        """Whether it takes the likeliest token of the logits as they are, now and later."""
        options = self.options
        early_end = options.min_new_tokens > self._picked and bool(options.eos_token_id)
        return self._random is None and self._seen is None and not early_end

    def pick(self, logits: Array) -> int:
        """The token for logits [vocabulary], which may be overwritten; it counts as said."""
        options = self.options
        if self._seen is not None:
            ids = self._seen.below(len(logits))
            known = logits[ids]
            penalty = options.repetition_penalty
            logits[ids] = np.where(known < 0, known * penalty, known / penalty)
        if self._picked < options.min_new_tokens and options.eos_token_id:
            logits[[i for i in options.eos_token_id if i < len(logits)]] = -np.inf
        if self._random is None:
            token = likeliest(logits)
        else:
            ids, weights = kept(logits, options)
            token = int(ids[drawn(weights, self._random.random())])
        self.say(token)
        return token

    def say(self, token: int) -> None:
        """Count a token as said that was picked elsewhere."""
        self._picked += 1
        if self._seen is not None:
            self._seen.add(token)


class _Seen:
    """The distinct tokens of a row."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._known = set(tokens)
        self._ids = np.array(sorted(self._known), dtype=np.int64)

    def add(self, token: int) -> None:
        if token not in self._known:
            self._known.add(token)
            self._ids = np.append(self._ids, token)

    def below(self, vocabulary: int) -> Array:
        return self._ids[self._ids < vocabulary]


def likeliest(logits: Array) -> int:
    """The token with the highest logit, the first of equals; an error if any logit is NaN."""
    token = int(logits.argmax())
    if np.isnan(logits[token]):  # argmax of numpy stops at the first NaN
        raise not_numbers()
    return token


def not_numbers() -> BundleError:
    """The error for logits that are NaN."""
    return BundleError(
        "the model's logits are not numbers (NaN): its weights are damaged, or overflow in this "
        "precision; try another variant of the bundle"
    )


def kept(logits: Array, options: GenerationOptions) -> tuple[Array, Array]:
    """The tokens that sampling may draw, in the order of their ids, and their weights.

    Weights are probabilities but for a common factor: the likeliest token has 1. Tokens that tie
    with the last one of top_k are kept too, as transformers has it.
    """
    best = float(logits.max())  # NaN if any of them is
    if not math.isfinite(best):
        raise not_numbers()
    ids, values = None, logits
    if 0 < options.top_k < len(logits):
        ids, values = _top(logits, options.top_k)
    scale = np.float32(min(1.0 / options.temperature, _SHARPEST))
    weights = np.exp((values - np.float32(best)) * scale)
    if options.top_p < 1.0:
        inside = _holding(weights, options.top_p)
        ids, weights = inside if ids is None else ids[inside], weights[inside]
    if options.min_p > 0.0:
        inside = np.flatnonzero(weights >= options.min_p)
        ids, weights = inside if ids is None else ids[inside], weights[inside]
    return np.arange(len(logits)) if ids is None else ids, weights


def _top(logits: Array, count: int) -> tuple[Array, Array]:
    """The ids of the `count` highest logits and of those that tie with the last; the logits.

    The highest of each column are looked at first, of the logits in rows: as many of them as
    wanted are no higher than what is wanted, and few columns hold any as high.
    """
    columns = max(len(logits) // _BLOCK, min(len(logits), 4 * count))
    grid = logits[: len(logits) // columns * columns].reshape(-1, columns)
    highest = grid.max(0)
    least = _least(highest, count)
    some = np.flatnonzero(highest >= least)
    rows, at = np.nonzero(grid[:, some] >= least)
    ids = rows * columns + some[at]
    if grid.size < len(logits):
        ids = np.append(ids, np.flatnonzero(logits[grid.size :] >= least) + grid.size)
    values = logits[ids]
    if len(ids) > count:
        inside = values >= _least(values, count)
        ids, values = ids[inside], values[inside]
    return ids, values


def _least(values: Array, count: int) -> Any:
    """The lowest of the `count` highest values."""
    return np.partition(values, len(values) - count)[len(values) - count]


def _holding(weights: Array, share: float) -> Array:
    """The places, in order, of the fewest weights that hold this share of all together.

    What is below an even part of the rest holds no more than the rest together: it is never
    needed, and not sorted.
    """
    total = weights.sum(dtype=np.float64)
    some = np.flatnonzero(weights >= 0.99 * (1.0 - share) * total / len(weights))
    looked = _FIRST_LOOK
    while True:
        whole = looked >= len(some)
        top = some if whole else some[np.argpartition(weights[some], len(some) - looked)[-looked:]]
        top = top[np.argsort(-weights[top], kind="stable")]
        held = np.cumsum(weights[top], dtype=np.float64)
        inside = held - weights[top] < share * total  # what the likelier ones hold
        inside[0] = True
        if whole or not inside[-1]:
            return np.sort(top[inside])
        looked *= 8


def drawn(weights: Array, at: float) -> int:
    """The place at the share `at`, from 0 to 1, of the weights' sum; block by block, if many."""
    blocks = len(weights) // _BLOCK
    start = 0
    if blocks > _BLOCK:
        sums = np.add.reduceat(weights, np.arange(0, blocks * _BLOCK, _BLOCK), dtype=np.float64)
        held = np.cumsum(sums)
        point = at * held[-1]
        block = min(int(np.searchsorted(held, point, side="right")), blocks - 1)
        start, before = block * _BLOCK, held[block] - sums[block]
        weights = weights[start : None if block == blocks - 1 else start + _BLOCK]
        held = np.cumsum(weights, dtype=np.float64) + before
    else:
        held = np.cumsum(weights, dtype=np.float64)
        point = at * held[-1]
    return start + min(int(np.searchsorted(held, point, side="right")), len(weights) - 1)
