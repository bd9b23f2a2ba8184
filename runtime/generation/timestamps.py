"""Whisper's timestamps: when they may come, and how sure a text is (Radford et al. 2022).

https://arxiv.org/abs/2212.04356; the rules are those of openai/whisper's decoding.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgetfm.signature import Array

SECONDS = 0.02
"""From one timestamp to the next."""


@dataclass(frozen=True)
class Timestamps:
    """A rule: timestamps never fall, come in pairs but before the end, and begin each text.

    begin: the token of 0.00 s; those behind it count on. without: the token that asks for none.
    end: the token that ends a text; all below it are words. latest: of the first one.
    """

    begin: int
    without: int
    end: int
    latest: int

    def __call__(
        self, scores: Array, prompt: Sequence[int], said: Sequence[int], room: int
    ) -> None:
        """As rules.Rule."""
        scores[self.without] = -np.inf
        times = [token for token in said if token >= self.begin]
        last = bool(said) and said[-1] >= self.begin
        paired = len(said) < 2 or said[-2] >= self.begin
        if last and paired:
            scores[self.begin :] = -np.inf
        elif last:
            scores[: self.end] = -np.inf
        if times:
            first = times[-1] if last and not paired else times[-1] + 1
            scores[self.begin : first] = -np.inf
        if not said:
            scores[: self.begin] = -np.inf
            scores[self.begin + self.latest + 1 :] = -np.inf
        self._prefer_time(scores)

    def _prefer_time(self, scores: Array) -> None:
        """Where all times together are likelier than any word, a time it is."""
        times, word = scores[self.begin :], scores[: self.begin].max()
        best = times.max(initial=-np.inf)
        if best == -np.inf:
            return
        if best + np.log(np.exp(times - best).sum()) > word:
            scores[: self.begin] = -np.inf


@dataclass
class Certainty:
    """A rule that changes nothing, and adds up the log probabilities of what was picked."""

    total: float = 0.0
    _last: tuple[Array, float] | None = field(default=None, repr=False)

    def __call__(
        self, scores: Array, prompt: Sequence[int], said: Sequence[int], room: int
    ) -> None:
        """As rules.Rule; comes after all others."""
        self._settle(said)
        best = scores.max()
        self._last = (scores, float(best + np.log(np.exp(scores - best).sum())))

    def mean(self, said: Sequence[int]) -> float:
        """Of each token of a text that has ended, its end counted."""
        self._settle(said)
        return self.total / max(1, len(said))

    def _settle(self, said: Sequence[int]) -> None:
        if self._last is not None and said:
            scores, whole = self._last
            self.total += float(scores[said[-1]]) - whole
        self._last = None
