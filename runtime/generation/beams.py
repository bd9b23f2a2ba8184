"""Beam search over the answers to one source: which to go on with, and which is the best.

The rules are those of transformers' `generate`, in float32 as there:
https://huggingface.co/docs/transformers/main_classes/text_generation
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgetfm.signature import Array


@dataclass(frozen=True)
class Hypothesis:
    """An answer that is whole, and its log probability by its length."""

    tokens: tuple[int, ...]
    score: np.float32


@dataclass(frozen=True)
class _Beam:
    tokens: tuple[int, ...]
    score: np.float32
    place: int


class Beams:
    """The `size` likeliest answers so far, each in a place of the cache, and those that are whole.

    An answer keeps its place as long as one that goes on from it is kept: only the others that
    branch off are copied, into the places of those that were dropped.
    limit: the most tokens of an answer. best: the whole answers, the best first; `size` at most.
    """

    def __init__(
        self,
        size: int,
        eos: Sequence[int],
        limit: int,
        *,
        length_penalty: float = 1.0,
        early_stopping: bool | str = False,
    ) -> None:
        self.size = size
        self.done = False
        self.best: list[Hypothesis] = []
        self._eos = frozenset(eos)
        self._limit = limit
        self._penalty = length_penalty
        self._early = early_stopping
        self._running = [_Beam((), np.float32(0.0), 0)]

    @property
    def tokens(self) -> list[tuple[int, ...]]:
        """What each answer that goes on says so far, in the order of `places`."""
        return [beam.tokens for beam in self._running]

    @property
    def places(self) -> list[int]:
        """Where each of them is, from 0 to size - 1."""
        return [beam.place for beam in self._running]

    @property
    def last(self) -> list[int]:
        """The last token of the answer in each place."""
        found = [0] * self.size
        for beam in self._running:
            found[beam.place] = beam.tokens[-1]
        return found

    def advance(self, scores: Array) -> list[tuple[int, int]]:
        """Go on by a token; the pairs (from, to) of places that have to be copied, in any order.

        scores: log probabilities [answers, vocabulary], in the order of `places`.
        """
        candidates = self._candidates(scores)
        length = len(self._running[0].tokens) + 1
        full = length >= self._limit
        going: list[_Beam] = []
        for rank, (parent, token, score) in enumerate(candidates):
            if token in self._eos or full:
                if rank < self.size:
                    self._finish((*parent.tokens, token), score, length)
            elif len(going) < self.size:
                going.append(_Beam((*parent.tokens, token), score, parent.place))
        self.done = full or not going or self._is_settled(going[0].score, length)
        if self.done:
            return []
        self._running, copies = _placed(going, self.size)
        return copies

    def _candidates(self, scores: Array) -> list[tuple[_Beam, int, np.float32]]:
        """The likeliest tokens to go on with, the best first: enough for `size` to go on."""
        so_far = np.array([beam.score for beam in self._running], np.float32)
        totals = (scores + so_far[:, None]).ravel()
        count = min(max(2, 1 + len(self._eos)) * self.size, totals.size)
        top = np.argpartition(totals, totals.size - count)[totals.size - count :]
        top = top[np.lexsort((top, -totals[top]))]
        vocabulary = scores.shape[1]
        return [(self._running[i // vocabulary], int(i % vocabulary), totals[i]) for i in top]

    def _finish(self, tokens: tuple[int, ...], score: np.float32, length: int) -> None:
        scored = np.float32(score / np.float32(length**self._penalty))
        self.best.append(Hypothesis(tokens, scored))
        self.best.sort(key=lambda h: -h.score)  # stable: of equals, the earlier one
        del self.best[self.size :]

    def _is_settled(self, best: np.float32, length: int) -> bool:
        """Whether what goes on can be left, by transformers' rule; `best` is its best score."""
        if len(self.best) < self.size:
            return False
        if self._early is True:
            return True
        longest = self._limit if self._early == "never" and self._penalty > 0.0 else length
        return bool(np.float32(best / np.float32(longest**self._penalty)) <= self.best[-1].score)


def _placed(going: list[_Beam], size: int) -> tuple[list[_Beam], list[tuple[int, int]]]:
    """The answers with a place of their own each, and the copies that this takes."""
    taken: set[int] = set()
    free = [place for place in range(size) if place not in {beam.place for beam in going}]
    placed, copies = [], []
    for beam in going:
        place = beam.place
        if place in taken:
            place = free.pop()
            copies.append((beam.place, place))
        taken.add(place)
        placed.append(_Beam(beam.tokens, beam.score, place))
    return placed, copies
