"""The next token of each row, picked from its logits.

The rules and their order are transformers': repetition penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgetfm.errors import EdgetfmError
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.signature import Array

_FIRST_LOOK = 256
"""How many of the likeliest tokens top-p looks at first: they nearly always hold the share."""


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
            total = np.cumsum(weights)
            at = np.searchsorted(total, self._random.random() * total[-1], side="right")
            token = int(ids[min(int(at), len(ids) - 1)])
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


def not_numbers() -> EdgetfmError:
    """The error for logits that are NaN."""
    return EdgetfmError(
        "the model's logits are not numbers (NaN): its weights are damaged, or overflow in this "
        "precision; try another variant of the bundle"
    )


def kept(logits: Array, options: GenerationOptions) -> tuple[Array, Array]:
    """The tokens that sampling may draw, in the order of their ids, and their weights.

    Weights are probabilities but for a common factor, float64. Tokens that tie with the last one
    of top_k are kept too, as transformers has it.
    """
    best = logits.max()  # NaN if any of them is
    if not np.isfinite(best):
        raise not_numbers()
    ids = np.arange(len(logits))
    if 0 < options.top_k < len(logits):
        least = np.partition(logits, len(logits) - options.top_k)[len(logits) - options.top_k]
        ids = np.flatnonzero(logits >= least)
    weights = np.exp((logits[ids].astype(np.float64) - best) / options.temperature)
    if options.top_p < 1.0:
        inside = _holding(weights, options.top_p)
        ids, weights = ids[inside], weights[inside]
    if options.min_p > 0.0:  # the likeliest token's weight is 1
        inside = np.flatnonzero(weights >= options.min_p)
        ids, weights = ids[inside], weights[inside]
    return ids, weights


def _holding(weights: Array, share: float) -> Array:
    """The places, in order, of the fewest weights that hold this share of all together."""
    wanted = share * weights.sum()
    looked = _FIRST_LOOK
    while True:
        whole = looked >= len(weights)
        top = (
            np.arange(len(weights))
            if whole
            else np.argpartition(weights, len(weights) - looked)[-looked:]
        )
        top = top[np.argsort(-weights[top], kind="stable")]
        before = np.cumsum(weights[top]) - weights[top]  # what the likelier ones hold
        inside = before < wanted
        inside[0] = True
        if whole or not inside[-1]:
            return np.sort(top[inside])
        looked *= 8
