"""Speech of any length to text, by an encoder-decoder that hears 30 seconds at a time.

The windows, the seeking and the second tries are those of openai/whisper's transcribe.py
(https://github.com/openai/whisper): the next window starts at the last time that was said.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from edgetfm.errors import BundleError, InputError, listed
from edgetfm.runtime.audio import AudioReader
from edgetfm.runtime.generation.rows import Row
from edgetfm.runtime.generation.rules import Rule, Rules
from edgetfm.runtime.generation.seq2seq import Encoded, Seq2Seq
from edgetfm.runtime.generation.seq2seq_options import Seq2SeqOptions
from edgetfm.runtime.generation.stream import Detokenizer
from edgetfm.runtime.generation.timestamps import SECONDS, Certainty, Timestamps
from edgetfm.runtime.sounds import Samples

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Tried one after the other until a text is sure and does not repeat itself."""
REPEATS = 2.4
"""Times that a text gets smaller by zlib, above which it repeats itself."""
UNSURE = -1.0
"""Mean log probability of a token, below which a text is not sure."""
SILENT = 0.6
"""Probability that nothing is said, above which a text that is not sure is dropped."""
_NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")
_BEFORE = "<|startofprev|>"


@dataclass(frozen=True)
class Segment:
    """Something that was said from `start` to `end`, in seconds."""

    start: float
    end: float
    tokens: tuple[int, ...]
    text: str


@dataclass(frozen=True)
class Hearing:
    """How a sound is heard.

    language: as the model calls it, None is heard first; of a model of one language nothing else.
    task: transcribe, or translate into English. temperatures: see TEMPERATURES. seed: of the
    draws at temperatures above 0. on_previous: each window is told what was said before.
    """

    language: str | None = None
    task: str | None = None
    temperatures: tuple[float, ...] = TEMPERATURES
    on_previous: bool = False
    seed: int = 0


@dataclass(frozen=True)
class _Try:
    """What was written of one window at one temperature."""

    tokens: list[int]
    temperature: float
    sureness: float
    silence: float


class Transcriber:
    """A bundle that writes down speech, ready to.

    said: the manifest's `generation`; config: the generation_config.json. A model that was trained
    without tokens for times says none: each of its windows is one segment.
    """

    def __init__(
        self,
        model: Seq2Seq,
        reader: AudioReader,
        text_of: Detokenizer,
        said: Mapping[str, Any],
        config: Mapping[str, Any],
    ) -> None:
        self.model, self.reader, self.text_of = model, reader, text_of
        if problems := _wrong(said, model.vocabulary):
            raise BundleError(f"the manifest's 'generation' is malformed:\n{listed(problems)}")
        self.begin: int | None = said.get("timestamps_begin")
        self.languages: dict[str, int] = {
            name.strip("<|>"): number for name, number in said.get("language_tokens", {}).items()
        }
        self.tasks: dict[str, int] = dict(said.get("task_tokens", {}))
        self.rules = Rules.of_model(config, model.eos, model.vocabulary)
        latest = config.get("max_initial_timestamp_index")
        self.latest: int = latest if type(latest) is int and latest >= 0 else 50
        limit = {"max_new_tokens": model.context // 2}
        self.defaults = Seq2SeqOptions.of_model({}, eos=model.eos).changed(**limit)
        if reader.samples is None:
            raise BundleError("this bundle does not say how long the windows are that it hears")
        self.window: int = reader.samples

    def plain(
        self, waves: Sequence[Samples], hearing: Hearing, options: Seq2SeqOptions
    ) -> list[str]:
        """The text of each sound of a window at most, without times, all at once."""
        encoded = self._encoded(waves)
        prompts = self._prompts(encoded, hearing, timed=False)
        rows = [Row(prompt, options) for prompt in prompts]
        self._write(encoded, rows, options, [self.rules])
        return [self._text(row.tokens).strip() for row in rows]

    def segments(
        self, wave: Samples, hearing: Hearing, options: Seq2SeqOptions
    ) -> Iterator[Segment]:
        """What is said in a sound of any length, one after the other, as it is heard."""
        at, before = 0, list[int]()
        while at < wave.size:
            piece = wave[at : at + self.window]
            if piece.size < self.reader.least or piece.size < _LEAST_SECONDS * self._rate:
                return
            found = self._heard(piece, hearing, options, before)
            if found.silence > SILENT and found.sureness < UNSURE:
                at += piece.size
                continue
            pieces, step = self._cut(found.tokens, piece.size)
            for segment in pieces:
                start = at / self._rate
                if segment.text.strip() and segment.end > segment.start:
                    yield replace(segment, start=start + segment.start, end=start + segment.end)
            if hearing.on_previous and found.temperature <= 0.5:
                before += [token for segment in pieces for token in segment.tokens]
            else:
                before = []
            at += step

    # --- one window -------------------------------------------------------------------------------

    def _heard(
        self, piece: Samples, hearing: Hearing, options: Seq2SeqOptions, before: list[int]
    ) -> _Try:
        """The first try that is sure and does not repeat itself, else the last."""
        encoded = self._encoded([piece])
        (prompt,) = self._prompts(encoded, hearing, timed=True, before=before)
        for temperature in hearing.temperatures:
            found = self._tried(encoded, prompt, options, temperature, hearing.seed)
            text = self._text(found.tokens).strip()
            unsure, silent = found.sureness < UNSURE, found.silence > SILENT
            if unsure and silent:
                break
            if not unsure and not _compressed(text) > REPEATS:
                break
        return found

    def _tried(
        self,
        encoded: Encoded,
        prompt: list[int],
        options: Seq2SeqOptions,
        temperature: float,
        seed: int,
    ) -> _Try:
        certainty, silence = Certainty(), 0.0
        rules: list[Rule] = [self.rules]
        if self.begin is not None:
            rules.append(Timestamps(self.begin, self.begin - 1, self.model.eos[0], self.latest))
        if temperature > 0.0:
            options = replace(options, num_beams=1, do_sample=True, top_k=0, seed=seed)
            options = replace(options, temperature=temperature)
        row = Row(prompt, options)
        start = len(prompt) - 1 - prompt[::-1].index(self.model.start)

        def look(logits: Any) -> None:
            nonlocal silence
            if self._silence is not None:
                scores = logits[0, start] - logits[0, start].max()
                silence = float(np.exp(scores[self._silence]) / np.exp(scores).sum())

        sureness = self._write(encoded, [row], options, rules, certainty, look)
        tokens = [t for t in row.tokens if t not in self.model.eos]
        return _Try(tokens, temperature, sureness, silence)

    def _write(
        self,
        encoded: Encoded,
        rows: list[Row],
        options: Seq2SeqOptions,
        rules: list[Rule],
        certainty: Certainty | None = None,
        look: Any = None,
    ) -> float:
        """Let the rows say it; how sure that is, if `certainty` is asked for of one row."""
        if options.num_beams > 1:
            best = self.model.search(encoded, rows, options, rules, look)
            return float(best[0][0].score) if best[0] else UNSURE
        wanted = rules if certainty is None else [*rules, certainty]
        for _ in self.model.write(encoded, rows, wanted, look):
            pass
        return 0.0 if certainty is None else certainty.mean(rows[0].tokens)

    def _cut(self, tokens: list[int], size: int) -> tuple[list[Segment], int]:
        """The segments of a window of `size` samples, and how many samples of it are done.

        Between two times a segment ends and the next begins. What comes after the last such place
        is heard again, unless the text ends with a single time: then all was said.
        """
        if self.begin is None:
            return [self._segment(tokens, 0.0, size / self._rate)], size
        is_time = [token >= self.begin for token in tokens]
        places = [i + 1 for i in range(len(tokens) - 1) if is_time[i] and is_time[i + 1]]
        single_end = is_time[-2:] == [False, True]
        if not places:
            times = [token for token in tokens if token >= self.begin]
            end = size / self._rate
            if times and times[-1] != self.begin:
                end = (times[-1] - self.begin) * SECONDS
            return [self._segment(tokens, 0.0, end)], size
        ends = [*places, len(tokens)] if single_end else places
        found = [
            self._segment(part, self._seconds(part[0]), self._seconds(part[-1]))
            for part in (tokens[a:b] for a, b in zip([0, *ends], ends, strict=False))
        ]
        if single_end:
            return found, size
        done = round(self._seconds(tokens[ends[-1] - 1]) * self._rate)
        return found, min(size, done) if done > 0 else size

    def _segment(self, tokens: Sequence[int], start: float, end: float) -> Segment:
        return Segment(start, end, tuple(tokens), self._text(tokens))

    def _seconds(self, token: int) -> float:
        return max(0, token - (self.begin or 0)) * SECONDS

    def _text(self, tokens: Sequence[int]) -> str:
        if self.begin is None:
            return self.text_of([t for t in tokens if t not in self.model.eos])
        return self.text_of([t for t in tokens if t < min(self.begin, *self.model.eos)])

    # --- prompts ----------------------------------------------------------------------------------

    def _prompts(
        self, encoded: Encoded, hearing: Hearing, *, timed: bool, before: Sequence[int] = ()
    ) -> list[list[int]]:
        """What each text starts with: language, task, and whether times are wanted."""
        last = [] if timed or self.begin is None else [self.begin - 1]
        start = [*self._told(before), self.model.start]
        rows = len(encoded.hidden)
        if not self.languages:
            for name, value in (("language", hearing.language), ("task", hearing.task)):
                if value not in (None, "en", "transcribe"):
                    raise InputError(f"this model writes down English: leave out {name}={value!r}")
            return [[*start, *last]] * rows
        task = self.tasks.get(hearing.task or "transcribe")
        if task is None:
            raise InputError(f"task is {hearing.task!r}, it may be {', '.join(self.tasks)}")
        return [[*start, number, task, *last] for number in self._languages(encoded, hearing)]

    def _languages(self, encoded: Encoded, hearing: Hearing) -> list[int]:
        """The token of each sound's language: the one that was named, or the likeliest."""
        if hearing.language is not None:
            if hearing.language not in self.languages:
                known = ", ".join(self.languages)
                raise InputError(f"language is {hearing.language!r}, it may be {known}")
            return [self.languages[hearing.language]] * len(encoded.hidden)
        numbers = np.array(list(self.languages.values()))
        logits = self.model.first(encoded)[:, numbers]
        return [int(number) for number in numbers[logits.argmax(-1)]]

    def _told(self, before: Sequence[int]) -> list[int]:
        """What was said before, as the model is told of it."""
        number = self.text_of.tokenizer.token_to_id(_BEFORE)
        if not before or number is None:
            return []
        return [number, *before[1 - self.model.context // 2 :]]

    def _encoded(self, waves: Sequence[Samples]) -> Encoded:
        rows = [self.reader.prepare(wave) for wave in waves]
        return self.model.encode(self.reader.batch(rows))

    @cached_property
    def _silence(self) -> int | None:
        """The token that says that nothing is said."""
        found = (self.text_of.tokenizer.token_to_id(name) for name in _NO_SPEECH)
        return next((number for number in found if number is not None), None)

    @property
    def _rate(self) -> int:
        return self.reader.sampling_rate


_LEAST_SECONDS = 0.1
"""What is left of a sound at its end, below which nothing can have been said."""


def _compressed(text: str) -> float:
    """Times that a text gets smaller by zlib."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def _wrong(said: Mapping[str, Any], vocabulary: int) -> list[str]:
    """What is wrong with the tokens of a Whisper's languages, tasks, times and end."""

    def is_token(value: Any) -> bool:
        return type(value) is int and 0 <= value < vocabulary

    tokens = f"from 0 to {vocabulary - 1}"
    problems = [
        f"{name} is {said[name]!r:.60}, expected names of tokens {tokens}"
        for name in ("language_tokens", "task_tokens")
        if name in said
        and not (isinstance(said[name], Mapping) and all(map(is_token, said[name].values())))
    ]
    begin = said.get("timestamps_begin")
    if begin is not None and not (is_token(begin) and begin > 0):
        problems.append(f"timestamps_begin is {begin!r:.60}, expected a token {tokens}")
    if not said.get("eos"):
        problems.append("eos is empty: no text would end")
    if said.get("language_tokens") and not said.get("task_tokens"):
        problems.append("there are languages and no task_tokens")
    return problems
