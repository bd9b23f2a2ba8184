"""How fast a decoder reads a prompt and writes an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.progress import Progress, quiet
from edgetfm.runtime.cases import held_by_memory
from edgetfm.runtime.encoder_decoder import HIDDEN, EncoderDecoder
from edgetfm.runtime.generation.decoder import Decoder
from edgetfm.runtime.generation.generator import Generator, Pieces
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.runtime.generation.rows import Row
from edgetfm.runtime.model import Model
from edgetfm.runtime.tuning import timed
from edgetfm.signature import Array, Feeds

ROUNDS = 5


@dataclass(frozen=True)
class Speed:
    """Seconds to the first token of each round, and of each token after it, of all rounds."""

    batch: int
    prompt: int
    first: Array
    step: Array

    def to_json(self) -> dict[str, Any]:
        """Tokens a second, and milliseconds to the first token; medians."""
        first, step = float(np.median(self.first)), float(np.median(self.step))
        return {
            "prompt_tokens": self.prompt,
            "prefill_tokens_per_second": round(self.batch * self.prompt / first, 2),
            "decode_tokens_per_second": round(self.batch / step, 2),
            "time_to_first_token_ms": round(first * 1e3, 3),
        }


def measure_generation(
    model: Model,
    *,
    batch: int,
    prompt: int,
    tokens: int,
    rounds: int = ROUNDS,
    progress: Progress = quiet,
) -> Speed:
    """Prompts of `prompt` tokens read, and `tokens` more written greedily, in each round.

    The whole loop is timed, as people run it: picking tokens too. A first, untimed round warms
    up. InputError if the context is too short.
    """
    decoder = Decoder(model)
    if prompt + tokens + 1 > decoder.context:
        raise InputError(
            f"{prompt} tokens of prompt and {tokens + 1} of answer do not fit the model's context "
            f"of {decoder.context}"
        )

    def begun(number: int, more: int) -> Iterator[Any]:
        return _written(decoder, batch, prompt, more, seed=number)

    return Speed(batch, prompt, *_timed(begun, tokens, rounds, progress))


def measure_pairs(
    model: EncoderDecoder,
    sources: Feeds,
    *,
    tokens: int,
    start: int,
    rounds: int = ROUNDS,
    progress: Progress = quiet,
) -> Speed:
    """Sources read, and `tokens` more than one written greedily about each, in each round.

    The first token's time holds the encoder's. sources: the encoder's inputs. start: the token
    that a text begins with. A first, untimed round warms up.
    """
    found = _timed(lambda *_: _about(model, sources, start), tokens, rounds, progress)
    (read,) = {a.shape[1] for n, a in model.encode(sources).items() if n == HIDDEN}
    return Speed(len(next(iter(sources.values()))), read, *found)


def _timed(
    begin: Callable[[int, int], Iterator[Any]], tokens: int, rounds: int, progress: Progress
) -> tuple[Array, Array]:
    """Seconds to each round's first token, and of the `tokens` after it; one round warms up.

    begin: begins an answer, of a round's number and of how many tokens come after the first.
    """
    first, step = [], []
    for number in range(rounds + 1):
        progress("measuring generation", number, rounds + 1)
        more = tokens if number else 2
        steps = begin(number, more)
        seconds = [timed(lambda steps=steps: next(steps)) for _ in range(1 + more)]  # type: ignore[misc]
        if number:
            first.append(seconds[0])
            step += seconds[1:]
    progress("measuring generation", rounds + 1, rounds + 1)
    return np.array(first), np.array(step)


def _about(model: EncoderDecoder, sources: Feeds, start: int) -> Iterator[Array]:
    """Tokens without end about each source, [batch, 1] each."""
    writing = model.begin(sources)
    tokens = np.full((len(next(iter(sources.values()))), 1), start, np.int64)
    while True:
        tokens = writing.step(tokens)[:, -1:].argmax(-1)
        yield tokens


def _written(
    decoder: Decoder, batch: int, prompt: int, tokens: int, *, seed: int
) -> Iterator[Pieces]:
    """An answer of no meaning to a prompt of none, which no token ends."""
    random = np.random.default_rng(seed)
    with held_by_memory(batch, prompt):
        ids = random.integers(0, decoder.vocabulary, (batch, prompt)).tolist()
    options = GenerationOptions(max_new_tokens=tokens + 1)
    return Generator(decoder).write([Row(row, options) for row in ids])
