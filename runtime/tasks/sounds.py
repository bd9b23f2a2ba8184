"""Tasks of sounds: what is heard, what is said, and a vector for each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.audio import AudioReader
from edgetfm.runtime.ctc import Letters
from edgetfm.runtime.sounds import Samples, samples_of
from edgetfm.runtime.tasks._texts import Asked, batches, check_top_k
from edgetfm.runtime.tasks.classification import Scored, likeliest
from edgetfm.runtime.tasks.embeddings import check_output, together
from edgetfm.signature import BATCH, Array, Feeds

LONGEST_S = 60.0
"""Seconds of speech that are heard at once: attention takes the square of them."""
CHUNK_S = 30.0
"""Seconds of the parts that longer speech is heard in, unless others are asked for."""


def run_sounds(
    asked: Asked, waves: Sequence[Samples], *, batch_size: int
) -> Iterator[tuple[int, Feeds]]:
    """For each sound its number and its outputs, without the frames of its padding."""
    reader = asked.preprocessor.audio_reader
    specs = asked.model.signature.outputs
    for numbers in batches(range(len(waves)), batch_size):
        rows = [reader.prepare(waves[i]) for i in numbers]
        outputs = asked.model.run(reader.batch(rows))
        for row, number in enumerate(numbers):
            length = reader.positions(len(rows[row]))
            yield (
                number,
                {
                    s.name: outputs[s.name][row][:length]
                    if len(s.shape) == 3 and s.shape[0] == BATCH and isinstance(s.shape[1], str)
                    else outputs[s.name][row]
                    for s in specs
                },
            )


def _read(asked: Asked, sounds: Sequence[Any]) -> list[Samples]:
    """The samples of all sounds; warns of those that the model will not hear to the end."""
    reader = asked.preprocessor.audio_reader
    waves = [samples_of(sound, reader.sampling_rate) for sound in sounds]
    longest = reader.longest
    cut = sum(longest is not None and wave.size > longest for wave in waves)
    if longest is not None and cut:
        warnings.warn(
            f"{cut} of {len(waves)} sounds are longer than the model's "
            f"{longest / reader.sampling_rate:.3g} s and were cut",
            stacklevel=4,
        )
    return waves


def classify_sounds(
    asked: Asked,
    sounds: Sequence[Any],
    *,
    top_k: int | None = 5,
    function_to_apply: str | None = None,
    batch_size: int = 1,
) -> list[list[Scored]]:
    """For each sound its `top_k` labels as {"label", "score"}, the likeliest first; None is all."""
    check_top_k(top_k)
    rows = run_sounds(asked, _read(asked, sounds), batch_size=batch_size)
    return [likeliest(asked, outputs["logits"], top_k, function_to_apply) for _, outputs in rows]


def classify_frames(
    asked: Asked, sounds: Sequence[Any], *, batch_size: int = 1
) -> list[list[dict[str, float]]]:
    """For each frame of each sound the score of every label, each by itself: {label: score}."""
    answers = []
    for _, outputs in run_sounds(asked, _read(asked, sounds), batch_size=batch_size):
        scores = 0.5 * (1.0 + np.tanh(0.5 * outputs["logits"].astype(np.float32)))
        answers.append(
            [{asked.label(i): float(s) for i, s in enumerate(frame)} for frame in scores]
        )
    return answers


def embed_sounds(
    asked: Asked, sounds: Sequence[Any], *, output: str | None = None, batch_size: int = 1
) -> Array | list[Array]:
    """Embeddings [sounds, width]; with output="last_hidden_state" a list of [frames, width]."""
    name = output or ("embeddings" if _has(asked, "embeddings") else "audio_embedding")
    check_output(asked, name)
    waves = _read(asked, sounds)
    rows = [outputs[name] for _, outputs in run_sounds(asked, waves, batch_size=batch_size)]
    return together(asked, rows, name)


def _has(asked: Asked, output: str) -> bool:
    return any(o.name == output for o in asked.model.signature.outputs)


def write_speech(
    asked: Asked,
    sounds: Sequence[Any],
    *,
    chunk_length_s: float | None = None,
    batch_size: int = 1,
) -> list[dict[str, str]]:
    """What is said in each sound as {"text"}: the likeliest letter of each frame.

    chunk_length_s: longer sounds are heard in parts of so many seconds, a sixth of which is heard
    on both sides as well and left out, so that no letter is cut. Without it a sound is heard
    whole; longer than LONGEST_S, in parts of CHUNK_S, and a warning says so.
    """
    letters = asked.preprocessor.letters
    if letters is None:
        raise BundleError("there are no letters here: only the logits of frames can be had")
    if chunk_length_s is not None and not 1 <= chunk_length_s <= 10 * LONGEST_S:
        raise InputError(f"chunk_length_s is {chunk_length_s}, it can be 1 to {10 * LONGEST_S:g}")
    waves = _read(asked, sounds)
    texts: dict[int, str] = {}
    whole = [i for i, w in enumerate(waves) if not _in_parts(asked, w, chunk_length_s)]
    for place, outputs in run_sounds(asked, [waves[i] for i in whole], batch_size=batch_size):
        texts[whole[place]] = letters.read(outputs["logits"])
    for i, wave in enumerate(waves):
        if i not in texts:
            seconds = chunk_length_s or CHUNK_S
            texts[i] = _written(asked, letters, wave, seconds, batch_size)
    return [{"text": texts[i]} for i in range(len(waves))]


def _in_parts(asked: Asked, wave: Samples, chunk_length_s: float | None) -> bool:
    """Whether a sound is heard in parts; says so where nobody asked for it."""
    reader = asked.preprocessor.audio_reader
    seconds = wave.size / reader.sampling_rate
    if reader.longest is not None:
        return False
    if chunk_length_s is not None:
        return seconds > chunk_length_s
    if seconds > LONGEST_S:
        warnings.warn(
            f"a sound of {seconds:.0f} s is heard in parts of {CHUNK_S:g} s", stacklevel=4
        )
    return seconds > LONGEST_S


def _written(asked: Asked, letters: Letters, wave: Samples, seconds: float, batch_size: int) -> str:
    """The text of a sound that is heard in parts, whose middles are put together."""
    parts = list(parts_of(asked.preprocessor.audio_reader, wave, seconds))
    heard = run_sounds(asked, [part for part, _, _ in parts], batch_size=batch_size)
    classes = [
        outputs["logits"].argmax(-1)[first:end]
        for (_, first, end), (_, outputs) in zip(parts, heard, strict=True)
    ]
    return letters.join(np.concatenate(classes))


def parts_of(
    reader: AudioReader, wave: Samples, seconds: float
) -> Iterator[tuple[Samples, int, int | None]]:
    """The parts of a wave, and of each which frames are its own: from the first, to before the
    last; None is to its end.
    """
    step = reader.samples_a_frame
    beside = max(1, round(seconds / 6 * reader.sampling_rate / step))
    own = max(1, round(seconds * reader.sampling_rate / step) - 2 * beside)
    total = reader.positions(wave.size)
    for start in range(0, total, own):
        before = min(beside, start)
        end = start + own
        is_last = end + beside >= total
        piece = wave[(start - before) * step : None if is_last else (end + beside) * step]
        yield piece, before, None if is_last else before + own
        if is_last:
            return
