"""The loop that writes answers: prompts read once, then a token of each row a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgetfm.errors import InputError, listed
from edgetfm.runtime.generation.cache import Cache, rounded
from edgetfm.runtime.generation.decoder import Binding, Decoder
from edgetfm.runtime.generation.lookup import Lookup
from edgetfm.runtime.generation.reach import check_reach
from edgetfm.runtime.generation.rows import Row
from edgetfm.runtime.generation.sampling import not_numbers
from edgetfm.signature import Array

CHUNK = 512
"""A longer prompt is read in pieces of so many tokens: attention's scores grow with a piece
times everything before it, and between pieces the work can be stopped."""

TOGETHER = 32
"""Prompts of a batch that are all shorter are read at once, padded: a step costs hardly more for
a few tokens than for one. Longer ones gain nothing, and are read one by one without padding."""

Pieces = list[tuple[int, str]]
"""What a step adds: (row, text), the rows that go on or end with this step."""


@dataclass
class _Kept:
    """The cache of the last answer, and the tokens it holds."""

    cache: Cache
    tokens: list[int]


class Generator:
    """Writes answers with a decoder; keeps the last one's cache for a prompt that starts alike.

    Several may be written at once, each in a cache of its own: the one that was kept goes to
    whoever comes first.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._kept: list[_Kept] = []
        self._reached = 0

    def write(self, rows: Sequence[Row]) -> Iterator[Pieces]:
        """The answers of `rows`, all at once, as they come; each row ends with its `reason`.

        Raises InputError for prompts that are empty, too long, or hold unknown tokens, BundleError
        for a context that the graph does not have. An iterator that is closed, or left by an
        exception, frees its cache.
        """
        self._check(rows)
        for row in rows:
            row.fit(self.decoder.context)
        self._reach(max(len(row.prompt) + row.room for row in rows))
        return self._one(rows[0]) if len(rows) == 1 else self._batch(rows)

    def forget(self) -> None:
        """Free the cache that was kept."""
        self._kept.clear()

    @property
    def kept_tokens(self) -> tuple[int, ...]:
        """The tokens whose keys and values are kept for the next prompt."""
        return tuple(self._kept[-1].tokens) if self._kept else ()

    def _reach(self, tokens: int) -> None:
        """BundleError if so many are more than the graph takes, whatever the manifest says."""
        if tokens > self._reached:
            reached = rounded(max(tokens, 2 * self._reached), self.decoder.context)
            check_reach(self.decoder, reached)
            self._reached = reached

    def _check(self, rows: Sequence[Row]) -> None:
        context, vocabulary = self.decoder.context, self.decoder.vocabulary
        problems = []
        for i, row in enumerate(rows):
            which = "the prompt" if len(rows) == 1 else f"prompt {i}"
            strange = [t for t in row.prompt if not 0 <= t < vocabulary]
            if not row.prompt:
                problems.append(f"{which} is empty, and the model has no token to start with")
            elif strange:
                problems.append(
                    f"{which} has the token {strange[0]}: the model's are 0 to {vocabulary - 1}"
                )
            elif len(row.prompt) >= context:
                problems.append(
                    f"{which} has {len(row.prompt)} tokens, which leaves no room for an answer in "
                    f"the model's context of {context}: shorten it"
                )
            if row.options.prompt_lookup_num_tokens and len(rows) > 1:
                problems.append("prompt_lookup_num_tokens takes one prompt at a time")
            if row.options.prompt_lookup_num_tokens and self.decoder.remembers is not None:
                problems.append(
                    "prompt_lookup_num_tokens guesses, and a guess that is wrong has to be taken "
                    "back: this model has a memory, which cannot forget"
                )
        if problems:
            raise InputError(listed(dict.fromkeys(problems)))

    # --- one row ----------------------------------------------------------------------------------

    def _one(self, row: Row) -> Iterator[Pieces]:
        needed = rounded(len(row.prompt) + row.room, self.decoder.context)
        kept = self._take(row.prompt, needed)
        binding = self.decoder.bind(kept.cache)
        logits = None
        for end in _ends(len(kept.tokens), len(row.prompt)):
            if row.stopping:
                break
            logits = self._prefill(binding, row.prompt[len(kept.tokens) : end], end)
            kept.tokens = row.prompt[:end]
        if row.stopping or logits is None:
            row.reason = "cancelled"
        else:
            yield from self._answer(row, binding, kept, logits[0, 0])
        self._kept.append(kept)

    def _answer(self, row: Row, binding: Binding, kept: _Kept, logits: Array) -> Iterator[Pieces]:
        options = row.options
        token = row.sampler.pick(logits)
        yield [(0, row.take(token))]
        lookup = None
        if options.prompt_lookup_num_tokens and row.reason is None:
            lookup = Lookup(
                row.prompt,
                most=options.prompt_lookup_num_tokens,
                size=options.max_matching_ngram_size,
            )
            lookup.extend([token])
        while row.reason is None:
            guess = lookup.guess(row.room - 1) if lookup is not None else []
            length = len(kept.tokens) + 1
            read = np.array([[token, *guess]])
            scores = binding.step(read, [length + len(guess)], every=bool(guess))[0]
            kept.tokens.append(token)
            said, right = "", 0
            for at in range(len(guess) + 1):
                token = row.sampler.pick(scores[at])
                said += row.take(token)
                if lookup is not None:
                    lookup.extend([token])
                if row.reason is not None or at == len(guess) or token != guess[at]:
                    break
                kept.tokens.append(token)  # its keys and values are there already
                right += 1
            if lookup is not None and guess:
                lookup.judge(len(guess), right)
            yield [(0, said)]

    def _take(self, prompt: list[int], needed: int) -> _Kept:
        """A cache for this prompt: the last one's, cut to what is alike, or an empty one."""
        last = self._kept.pop() if self._kept else None
        self._kept.clear()
        if last is None:
            return _Kept(self.decoder.cache(1, needed), [])
        # The last token is read for its logits, and the one before it: see _prefill.
        most = max(0, min(len(last.tokens), len(prompt) - 2))
        unlike = np.flatnonzero(np.array(last.tokens[:most]) != np.array(prompt[:most]))
        common = int(unlike[0]) if len(unlike) else most
        if self.decoder.remembers is not None and common < len(last.tokens):
            return _Kept(self.decoder.cache(1, needed), [])  # a memory cannot be cut back
        if needed > last.cache.capacity and not last.cache.within_reach:
            return _Kept(self.decoder.cache(1, needed), [])
        return _Kept(last.cache.with_room(needed, common), prompt[:common])

    # --- several rows -----------------------------------------------------------------------------

    def _batch(self, rows: Sequence[Row]) -> Iterator[Pieces]:
        longest = max(len(row.prompt) + row.room for row in rows)
        cache = self.decoder.cache(len(rows), rounded(longest, self.decoder.context))
        logits = self._read(rows, cache)
        binding, places = self.decoder.bind(cache), list(range(len(rows)))
        lengths = [len(row.prompt) for row in rows]
        step = np.full((len(rows), 1), self.decoder.pad, dtype=np.int64)
        while True:
            pieces = _pick([rows[place] for place in places], logits, step)
            yield [(places[at], piece) for at, piece in pieces]
            going = [at for at, place in enumerate(places) if rows[place].reason is None]
            if not going:
                return
            if cache.within_reach and 2 * len(going) <= len(places):
                for target, source in enumerate(going):
                    if target != source:
                        cache.copy_row(source, target, lengths[source])
                places, lengths = ([of[at] for at in going] for of in (places, lengths))
                cache, step = cache.rows(0, len(going)), step[going]
                binding = self.decoder.bind(cache)
            for at, place in enumerate(places):
                if rows[place].reason is None:  # one that ended writes its last place again
                    lengths[at] += 1
            logits = binding.step(step, lengths)[:, 0]

    def _read(self, rows: Sequence[Row], cache: Cache) -> Array:
        """Read the prompts into the cache; the logits [rows, vocabulary] after each."""
        lengths = [len(row.prompt) for row in rows]
        if 1 < max(lengths) < TOGETHER or not cache.within_reach:
            tokens = np.full((len(rows), max(lengths)), self.decoder.pad, dtype=np.int64)
            for line, row in zip(tokens, rows, strict=True):
                line[: len(row.prompt)] = row.prompt
            return self.decoder.bind(cache).step(tokens, lengths)[:, 0]
        logits = np.empty((len(rows), self.decoder.vocabulary), self.decoder.logits_dtype)
        for at, row in enumerate(rows):
            binding = self.decoder.bind(cache.rows(at, at + 1))
            start = 0
            for end in _ends(0, len(row.prompt)):
                logits[at] = self._prefill(binding, row.prompt[start:end], end)[0, 0]
                start = end
        return logits

    def _prefill(self, binding: Binding, tokens: list[int], end: int) -> Array:
        """Read a part of a prompt that ends at `end`; the logits after it.

        onnxruntime attends from one token with another kernel than from several, which rounds
        differently: a prompt of one is padded, so that it gives the same alone and in a batch.
        """
        padded = [*tokens, self.decoder.pad] if end == 1 else tokens
        return binding.step(np.array([padded]), [end])


def _ends(start: int, end: int) -> list[int]:
    """Where the parts end in which a prompt is read from `start` on, all of like length."""
    parts = -(-(end - start) // CHUNK)
    return [start + (end - start) * part // parts for part in range(1, parts + 1)]


def _pick(rows: Sequence[Row], logits: Array, step: Array) -> Pieces:
    """Pick and take a token for each row that goes on; they are left in `step`.

    logits: [rows, vocabulary].
    """
    pieces: Pieces = []
    plain = all(row.sampler.is_plain for row in rows if row.reason is None)
    best = logits.argmax(-1) if plain else None
    for i, row in enumerate(rows):
        if row.reason is not None:
            continue
        if best is None:
            token = row.sampler.pick(logits[i])
        else:
            token = int(best[i])
            if np.isnan(logits[i, token]):
                raise not_numbers()
            row.sampler.say(token)
        step[i] = token
        pieces.append((i, row.take(token)))
    return pieces
