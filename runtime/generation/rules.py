"""What an answer may not say, and what it must: the rules of a generation_config.json.

Their meaning and order are those of transformers' logits processors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np

from edgetfm.errors import BundleError, listed
from edgetfm.signature import Array

Ids = tuple[int, ...]


class Rule(Protocol):
    """A rule over the next token of one answer."""

    def __call__(
        self, scores: Array, prompt: Sequence[int], said: Sequence[int], room: int
    ) -> None:
        """Change `scores` [vocabulary] in place: -inf is a token that may not come.

        room: how many tokens may still come, this one included.
        """


@dataclass(frozen=True)
class Rules:
    """The rules of a model.

    forced_bos: the first token, where the prompt is one token. forced_eos: the last one, where
    there is no room for more. suppressed, suppressed_first: tokens that never come, and that do not
    come first. bad_words: runs of tokens that never come. no_repeat: no run of so many tokens comes
    twice, 0 is any.
    """

    forced_bos: int | None = None
    forced_eos: int | None = None
    suppressed: Ids = ()
    suppressed_first: Ids = ()
    bad_words: tuple[Ids, ...] = ()
    no_repeat: int = 0

    @classmethod
    def of_model(
        cls, config: Mapping[str, Any], eos: Sequence[int] = (), vocabulary: int = 1 << 31
    ) -> Self:
        """The rules in a generation_config.json; BundleError for values that cannot be."""
        problems: list[str] = []

        def is_token(value: Any) -> bool:
            return type(value) is int and 0 <= value < vocabulary

        def ids(key: str) -> Ids:
            value = config.get(key)
            found = [value] if type(value) is int else [] if value is None else value
            if not isinstance(found, list) or not all(map(is_token, found)):
                problems.append(f"{key} is {value!r:.60}, expected token ids")
                return ()
            return tuple(found)

        runs = config.get("bad_words_ids") or []
        lists = isinstance(runs, list) and all(isinstance(r, list) and r for r in runs)
        if not lists or not all(is_token(i) for run in runs for i in run):
            problems.append(f"bad_words_ids is {runs!r:.60}, expected lists of token ids")
            runs = []
        size = config.get("no_repeat_ngram_size") or 0
        if type(size) is not int or size < 0:
            problems.append(f"no_repeat_ngram_size is {size!r:.60}, expected a whole number")
        rules = cls(
            forced_bos=next(iter(ids("forced_bos_token_id")), None),
            forced_eos=next(iter(ids("forced_eos_token_id")), None),
            suppressed=ids("suppress_tokens"),
            suppressed_first=ids("begin_suppress_tokens"),
            bad_words=tuple(tuple(run) for run in runs if run not in [[e] for e in eos]),
            no_repeat=size if type(size) is int else 0,
        )
        if problems:
            raise BundleError(f"generation_config.json cannot be used:\n{listed(problems)}")
        return rules

    @property
    def any(self) -> bool:
        """Whether there is any rule."""
        return self != type(self)()

    def __call__(
        self, scores: Array, prompt: Sequence[int], said: Sequence[int], room: int
    ) -> None:
        """Apply all of them; see Rule."""
        if self.no_repeat:
            scores[list(_after_repeats([*prompt, *said], self.no_repeat))] = -np.inf
        for run in self.bad_words:
            if len(run) == 1 or [*prompt, *said][1 - len(run) :] == list(run[:-1]):
                scores[run[-1]] = -np.inf
        if self.forced_bos is not None and len(prompt) == 1 and not said:
            _force(scores, self.forced_bos)
        if self.forced_eos is not None and room == 1:
            _force(scores, self.forced_eos)
        if self.suppressed:
            scores[self._suppressed] = -np.inf
        shift = self.forced_bos is not None and len(prompt) == 1
        if self.suppressed_first and len(said) == int(shift):
            scores[list(self.suppressed_first)] = -np.inf

    @cached_property
    def _suppressed(self) -> Array:
        return np.array(self.suppressed, dtype=np.int64)


def _force(scores: Array, token: int) -> None:
    scores[:] = -np.inf
    scores[token] = 0.0


def _after_repeats(tokens: Sequence[int], size: int) -> Iterator[int]:
    """The tokens that would end a run of `size` tokens that is there already."""
    start = list(tokens[len(tokens) - size + 1 :]) if size > 1 else []
    if len(tokens) + 1 < size:
        return
    for at in range(len(tokens) - size + 1):
        if list(tokens[at : at + size - 1]) == start:
            yield tokens[at + size - 1]
