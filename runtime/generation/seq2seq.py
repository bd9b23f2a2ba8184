"""The loops that write answers to sources: the source encoded once, then a token of each a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetfm.errors import BundleError, InputError, listed
from edgetfm.runtime.generation.beams import Beams, Hypothesis
from edgetfm.runtime.generation.decoding import Decoding
from edgetfm.runtime.generation.rows import Row
from edgetfm.runtime.generation.rules import Rule
from edgetfm.runtime.generation.sampling import not_numbers
from edgetfm.runtime.generation.seq2seq_options import Seq2SeqOptions
from edgetfm.runtime.session import Session
from edgetfm.signature import Array

Look = Callable[[Array], None]
"""What looks at the logits [rows, tokens, vocabulary] of the prompts."""

Pieces = list[tuple[int, str]]
"""What a step adds: (row, text), the rows that go on or end with this step."""

HIDDEN = "last_hidden_state"


@dataclass(frozen=True)
class Encoded:
    """Sources as the encoder gave them: hidden [rows, positions, width], and which count."""

    hidden: Array
    mask: Array | None = None

    def rows(self, start: int, stop: int) -> Encoded:
        """Some of them."""
        mask = None if self.mask is None else self.mask[start:stop]
        return Encoded(self.hidden[start:stop], mask)


class Seq2Seq:
    """An encoder and a decoder that writes about what was encoded.

    said: a manifest's `generation`. context: the longest answer, its prompt included. start: the
    token an answer starts with.
    """

    def __init__(self, encoder: Session, decoder: Session, said: Mapping[str, Any]) -> None:
        problems = _wrong(said)
        if problems:
            raise BundleError(f"the manifest's 'generation' is malformed:\n{listed(problems)}")
        self.encoder, self.decoder = encoder, decoder
        self.context: int = said["context"]
        self.start: int = said["decoder_start"]
        self.eos: tuple[int, ...] = tuple(said.get("eos", ()))
        self.pad: int = said.get("pad") or 0
        logits = next((t for t in decoder.signature.outputs if t.name == "logits"), None)
        if logits is None or not isinstance(logits.shape[-1], int):
            raise BundleError(f"this decoder gives no logits over a vocabulary: {logits}")
        self.vocabulary = logits.shape[-1]
        if beyond := [i for i in (self.start, *self.eos) if i >= self.vocabulary]:
            raise BundleError(
                f"the manifest's 'generation' names the tokens {beyond}, the model has "
                f"{self.vocabulary}"
            )

    def encode(self, feeds: Mapping[str, Array]) -> Encoded:
        """The sources of a batch, encoded."""
        hidden = self.encoder.run(feeds, [HIDDEN])[HIDDEN]
        return Encoded(hidden, feeds.get("attention_mask"))

    def first(self, encoded: Encoded) -> Array:
        """The logits [rows, vocabulary] of what comes after the start."""
        start = np.full((len(encoded.hidden), 1), self.start, dtype=np.int64)
        return Decoding(self.decoder, encoded.hidden, encoded.mask, 1).step(start)[:, -1]

    def write(
        self,
        encoded: Encoded,
        rows: Sequence[Row],
        rules: Sequence[Rule] = (),
        look: Look | None = None,
    ) -> Iterator[Pieces]:
        """The answers of `rows` to what was encoded, a row each, as they come.

        The rows' prompts have one length. Each row ends with its `reason`. Raises InputError for
        prompts that do not go together, are too long, or hold unknown tokens.
        """
        self._check(rows)
        for row in rows:
            row.fit(self.context)
        return self._write(encoded, rows, rules, look)

    def search(
        self,
        encoded: Encoded,
        rows: Sequence[Row],
        options: Seq2SeqOptions,
        rules: Sequence[Rule] = (),
        look: Look | None = None,
    ) -> list[list[Hypothesis]]:
        """The likeliest answers to each source by beam search, the best first; `rows` say it.

        Of each row's options, those of beam search are those of `options`. A row that is stopped
        ends the search with nothing.
        """
        self._check(rows)
        for row in rows:
            row.fit(self.context)
        return self._search(encoded, rows, options, rules, look)

    def _check(self, rows: Sequence[Row]) -> None:
        lengths = {len(row.prompt) for row in rows}
        strange = [t for row in rows for t in row.prompt if not 0 <= t < self.vocabulary]
        problems = []
        if len(lengths) > 1:
            problems.append(f"answers written together start with as many tokens, not {lengths}")
        if strange:
            problems.append(
                f"an answer starts with the token {strange[0]}: the model's are 0 to "
                f"{self.vocabulary - 1}"
            )
        if max(lengths) >= self.context:
            problems.append(
                f"an answer starts with {max(lengths)} tokens, which leaves no room in the model's "
                f"{self.context}"
            )
        if problems:
            raise InputError(listed(problems))

    def _decoding(self, encoded: Encoded, rows: Sequence[Row], copies: int = 1) -> Decoding:
        longest = max(len(row.prompt) + row.room for row in rows)
        mask = None if encoded.mask is None else np.array(encoded.mask, np.int64)
        return Decoding(self.decoder, encoded.hidden, mask, longest, copies)

    def _write(
        self, encoded: Encoded, rows: Sequence[Row], rules: Sequence[Rule], look: Look | None
    ) -> Iterator[Pieces]:
        decoding, places = self._decoding(encoded, rows), list(range(len(rows)))
        logits = _read(decoding, rows, look)
        tokens = np.full((len(rows), 1), self.pad, dtype=np.int64)
        while True:
            pieces = []
            for at, place in enumerate(places):
                row = rows[place]
                if row.reason is None:
                    for rule in rules:
                        rule(logits[at], row.prompt, row.tokens, row.room)
                    tokens[at] = token = row.sampler.pick(logits[at])
                    pieces.append((place, row.take(token)))
            yield pieces
            going = [at for at, place in enumerate(places) if rows[place].reason is None]
            if not going:
                return
            if 2 * len(going) <= len(places):
                decoding.keep(going)
                places, tokens = [places[at] for at in going], tokens[going]
            logits = decoding.step(tokens)[:, -1]

    # --- beams ------------------------------------------------------------------------------------

    def _search(
        self,
        encoded: Encoded,
        rows: Sequence[Row],
        options: Seq2SeqOptions,
        rules: Sequence[Rule],
        look: Look | None,
    ) -> list[list[Hypothesis]]:
        size = options.num_beams
        found = [
            Beams(
                size,
                row.options.eos_token_id,
                row.room,
                length_penalty=options.length_penalty,
                early_stopping=options.early_stopping,
            )
            for row in rows
        ]
        decoding, going = self._decoding(encoded, rows, size), list(range(len(rows)))
        logits = _read(decoding, rows, look)
        for i, beams in enumerate(found):
            beams.advance(self._scored(logits[i : i + 1], rows[i], beams, rules))
        decoding.spread()
        while going := self._kept(decoding, going, found, rows):
            tokens = np.array([found[i].last for i in going]).reshape(-1, 1)
            logits = decoding.step(tokens)[:, -1]
            copies: list[tuple[int, int]] = []
            for at, i in enumerate(going):
                beams = found[i]
                here = logits[at * size : (at + 1) * size][beams.places]
                made = beams.advance(self._scored(here, rows[i], beams, rules))
                copies += [(at * size + source, at * size + target) for source, target in made]
            decoding.copy_rows(copies)
        for row, beams in zip(rows, found, strict=True):
            _say(row, beams)
        return [beams.best for beams in found]

    def _kept(
        self, decoding: Decoding, going: list[int], found: Sequence[Beams], rows: Sequence[Row]
    ) -> list[int]:
        """The sources that still go on; the others' places are given up."""
        still = [i for i in going if not (found[i].done or rows[i].stopping)]
        if still and len(still) < len(going):
            size = found[0].size
            decoding.keep([going.index(i) * size + b for i in still for b in range(size)])
        return still

    def _scored(self, logits: Array, row: Row, beams: Beams, rules: Sequence[Rule]) -> Array:
        """The log probabilities [answers, vocabulary] of what comes next, by the rules."""
        logits = logits.astype(np.float32)
        best = logits.max(-1, keepdims=True)
        if not np.isfinite(best).all():
            raise not_numbers()
        logits -= best
        scores: Array = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for line, said in zip(scores, beams.tokens, strict=True):
            _penalize(line, [*row.prompt, *said], row.options.repetition_penalty)
            if len(said) < row.options.min_new_tokens:
                line[list(row.options.eos_token_id)] = -np.inf
            for rule in rules:
                rule(line, row.prompt, said, row.room - len(said))
        return scores


def _read(decoding: Decoding, rows: Sequence[Row], look: Look | None) -> Array:
    """The logits [rows, vocabulary] after the prompts."""
    logits = decoding.step(np.array([row.prompt for row in rows]))
    if look is not None:
        look(logits)
    return logits[:, -1]


def _penalize(scores: Array, tokens: Sequence[int], penalty: float) -> None:
    if penalty != 1.0:
        ids = list(set(tokens))
        scores[ids] = np.where(scores[ids] < 0, scores[ids] * penalty, scores[ids] / penalty)


def _say(row: Row, beams: Beams) -> None:
    """Let the row say the best answer."""
    for token in beams.best[0].tokens if beams.best else ():
        if row.reason is None:
            row.take(token)
    if row.reason is None:
        row.reason = "cancelled"


def _wrong(said: Mapping[str, Any]) -> list[str]:
    """What is wrong with a manifest's `generation`."""
    problems = [
        f"{name} is {said.get(name)!r}, expected {what}"
        for name, least, what in (
            ("context", 1, "a number of tokens"),
            ("decoder_start", 0, "an id"),
        )
        if not (type(said.get(name)) is int and said[name] >= least)
    ]
    eos = said.get("eos", [])
    if not (isinstance(eos, (list, tuple)) and all(type(i) is int and i >= 0 for i in eos)):
        problems.append(f"eos is {eos!r}, expected a list of token ids")
    pad = said.get("pad")
    if pad is not None and not (type(pad) is int and pad >= 0):
        problems.append(f"pad is {pad!r}, expected a token id or null")
    return problems
