"""automatic-speech-recognition by an encoder-decoder: what is said, and when."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgetfm.errors import InputError
from edgetfm.runtime.sounds import samples_of
from edgetfm.runtime.tasks._texts import Asked, batches

if TYPE_CHECKING:
    from edgetfm.runtime.transcription import Transcriber


def transcriber_of(asked: Asked) -> Transcriber:
    """What writes down speech with the model."""
    from edgetfm.runtime.generation.seq2seq_writer import seq2seq_of
    from edgetfm.runtime.generation.stream import Detokenizer
    from edgetfm.runtime.generation.writer import generation_config
    from edgetfm.runtime.transcription import Transcriber

    return Transcriber(
        seq2seq_of(asked.model),
        asked.preprocessor.audio_reader,
        Detokenizer(asked.preprocessor.text_encoder.tokenizer),
        asked.model.bundle.manifest.generation,
        generation_config(asked.model),
    )


def transcribe(
    asked: Asked,
    sounds: Sequence[Any],
    *,
    return_timestamps: bool = False,
    language: str | None = None,
    task: str | None = None,
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    temperature: float | Sequence[float] | None = None,
    condition_on_previous_text: bool = False,
    seed: int = 0,
    batch_size: int = 1,
) -> list[dict[str, Any]]:
    """What is said in each sound as {"text"}; with `return_timestamps` its segments as "chunks".

    A chunk is {"timestamp": (start, end), "text"}, in seconds. The options are those of
    edgetfm.runtime.transcription.Hearing; a sound longer than the model's window is heard window
    by window. batch_size: sounds of a window at most that are heard at once.
    """
    from edgetfm.runtime.transcription import TEMPERATURES, Hearing

    hears = asked.transcriber
    if return_timestamps and hears.begin is None:
        raise InputError("this model was trained without times: leave out return_timestamps")
    temperatures = _temperatures(TEMPERATURES if temperature is None else temperature)
    if type(seed) is not int or seed < 0:
        raise InputError(f"seed is {seed!r:.60}, it must be a whole number from 0")
    hearing = Hearing(language, task, temperatures, condition_on_previous_text, seed)
    options = hears.defaults.changed(num_beams=num_beams, max_new_tokens=max_new_tokens)
    if options.max_new_tokens > hears.model.context:
        warnings.warn(
            f"max_new_tokens is {max_new_tokens}, and this model's texts end after "
            f"{hears.model.context} tokens, those that they begin with among them",
            stacklevel=3,
        )
    waves = [samples_of(sound, hears.reader.sampling_rate) for sound in sounds]
    short = [i for i, w in enumerate(waves) if w.size <= hears.window and not return_timestamps]
    texts: dict[int, str] = {}
    for numbers in batches(short, batch_size):
        found = hears.plain([waves[i] for i in numbers], hearing, options)
        texts |= dict(zip(numbers, found, strict=True))
    answers: list[dict[str, Any]] = []
    for i, wave in enumerate(waves):
        if i in texts:
            answers.append({"text": texts[i]})
            continue
        segments = list(hears.segments(wave, hearing, options))
        answer: dict[str, Any] = {"text": "".join(s.text for s in segments).strip()}
        if return_timestamps:
            answer["chunks"] = [
                {"timestamp": (round(s.start, 2), round(s.end, 2)), "text": s.text}
                for s in segments
            ]
        answers.append(answer)
    return answers


def _temperatures(given: float | Sequence[float]) -> tuple[float, ...]:
    found = tuple(given) if isinstance(given, Sequence) else (given,)
    if not found or not all(isinstance(t, (int, float)) and 0 <= t <= 10 for t in found):
        raise InputError(f"temperature is {given!r:.60}, it must be numbers from 0 to 10")
    return tuple(map(float, found))
