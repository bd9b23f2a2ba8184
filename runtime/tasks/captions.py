"""image-to-text: a text about each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgetfm.runtime.tasks._texts import Asked, batches

if TYPE_CHECKING:
    from edgetfm.runtime.generation.writer import Stream

NAME = "image-to-text"

Answer = dict[str, str]


def write_captions(
    asked: Asked,
    images: Sequence[Any],
    *,
    num_beams: int | None = None,
    length_penalty: float | None = None,
    max_new_tokens: int | None = None,
    do_sample: bool | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    num_return_sequences: int = 1,
    batch_size: int = 1,
) -> list[Answer | list[Answer]]:
    """For each picture {"generated_text": ...}; with `num_return_sequences` above 1 a list of them.

    The other options are those of edgetfm.runtime.generation.seq2seq_options, None leaves the
    model's own.
    """
    defaults = asked.seq2seq.defaults
    options = defaults.changed(**defaults.among(locals()))
    answers: list[Answer | list[Answer]] = []
    for batch in batches(images, batch_size):
        encoded = asked.seq2seq.model.encode(asked.preprocessor.images(batch))
        rows = asked.seq2seq.answers_to(encoded, len(batch), options, answers=num_return_sequences)
        for found in rows:
            texts = [{"generated_text": row.text.strip()} for row in found]
            answers.append(texts if num_return_sequences > 1 else texts[0])
    return answers


def stream_caption(asked: Asked, image: Any, **given: Any) -> Stream:
    """The text about one picture as it is written; the options are those of generation."""
    encoded = asked.seq2seq.model.encode(asked.preprocessor.images([image]))
    return asked.seq2seq.stream_about(encoded, asked.seq2seq.defaults.changed(**given))
