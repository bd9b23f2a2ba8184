"""Guesses at what comes next, copied from where the text last said the same.

Prompt lookup decoding (Saxena 2023, https://github.com/apoorvumang/prompt-lookup-decoding): a
guess costs nothing, and a graph reads a few tokens in hardly more time than one. Guesses are only
kept where the model would have picked the same, so the answer does not change.
"""

from __future__ import annotations

from collections.abc import Sequence


class Lookup:
    """What followed each run of tokens so far, the last time it was there.

    most: the longest guess. size: the longest run that is looked up; shorter ones come after, down
    to two tokens.
    """

    def __init__(self, tokens: Sequence[int], *, most: int, size: int) -> None:
        self.most = most
        self._sizes = tuple(range(size, min(size, 2) - 1, -1))
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._width = most
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Add tokens to the text."""
        for token in tokens:
            end = len(self._tokens)
            for size in self._sizes:
                if size <= end:
                    self._after[tuple(self._tokens[end - size :])] = end
            self._tokens.append(token)

    def guess(self, limit: int) -> list[int]:
        """The tokens that may come next, `limit` at most; none if the text says nothing."""
        width = min(self._width, limit)
        for size in self._sizes:
            start = self._after.get(tuple(self._tokens[-size:])) if width > 0 else None
            if start is not None:
                known = self._tokens[start : start + width]
                while len(known) < width:  # it runs into its own end: what repeats goes on
                    known += known[: width - len(known)]
                return known
        return []

    def judge(self, guessed: int, right: int) -> None:
        """How many of the last guess were right: good guesses grow, bad ones shrink."""
        if guessed == right:
            self._width = min(self.most, self._width + 2)
        else:
            self._width = max(1, right + 1)
