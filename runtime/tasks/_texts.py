"""Texts run through a model in batches, a row of outputs each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import InputError, listed
from edgetfm.runtime.model import Model
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.runtime.text import Text, checked_texts
from edgetfm.signature import Feeds

if TYPE_CHECKING:
    from tokenizers import Encoding

    from edgetfm.runtime.generation.seq2seq_writer import Seq2SeqWriter
    from edgetfm.runtime.generation.writer import Writer
    from edgetfm.runtime.transcription import Transcriber


@dataclass(frozen=True)
class Asked:
    """What a task answers with: the model, its preprocessing, its labels and its config.json."""

    model: Model
    preprocessor: Preprocessor
    labels: tuple[str, ...]
    config: Mapping[str, Any]

    @cached_property
    def writer(self) -> Writer:
        """What writes text with the model; it keeps the cache of the last answer."""
        from edgetfm.runtime.generation.writer import Writer

        return Writer(self.model, self.preprocessor.text_encoder)

    @cached_property
    def seq2seq(self) -> Seq2SeqWriter:
        """What writes about texts with the model."""
        from edgetfm.runtime.generation.seq2seq_writer import Seq2SeqWriter

        return Seq2SeqWriter(self.model, self.preprocessor.text_encoder)

    @cached_property
    def transcriber(self) -> Transcriber:
        """What writes down speech with the model, if it has an encoder and a decoder."""
        from edgetfm.runtime.tasks.speech import transcriber_of

        return transcriber_of(self)

    def label(self, index: int) -> str:
        """The name of a class."""
        return self.labels[index] if index < len(self.labels) else f"LABEL_{index}"


def text_items(inputs: Any) -> tuple[list[Text], bool]:
    """The texts, and whether a single one was given: a list in gives a list out.

    A pair is a tuple of two texts, or {"text": ..., "text_pair": ...} as transformers has it.
    """
    single = isinstance(inputs, (str, tuple, Mapping))
    items = [inputs] if single else inputs
    if isinstance(items, Sequence):
        items = [_from_mapping(i) if isinstance(i, Mapping) else i for i in items]
        if not items:
            return [], False
    return checked_texts(items), single


def single_text_items(inputs: Any) -> tuple[list[Text], bool]:
    """As text_items, for tasks that know no pairs."""
    items, single = text_items(inputs)
    pairs = [f"item {i} is a pair" for i, item in enumerate(items) if isinstance(item, tuple)]
    if pairs:
        raise InputError(f"this task takes one text at a time:\n{listed(pairs)}")
    return items, single


def _from_mapping(item: Mapping[str, Any]) -> Any:
    if not set(item) <= {"text", "text_pair"} or "text" not in item:
        raise InputError(f"a text has the keys text and text_pair, got {', '.join(map(str, item))}")
    return (item["text"], item["text_pair"]) if item.get("text_pair") else item["text"]


def run_texts(
    asked: Asked, texts: Sequence[Text], *, batch_size: int, max_length: int | None
) -> Iterator[tuple[int, Encoding, Feeds]]:
    """For each text its number, its encoding and its outputs without padding.

    The shortest come first, so that little is padded. Warns of texts that were cut, unless
    the caller chose `max_length`.
    """
    if not texts:
        return
    encodings = asked.preprocessor.text_encoder.encode(texts, max_length=max_length)
    cut = sum(bool(e.overflowing) for e in encodings)
    if cut and max_length is None:
        limit = asked.preprocessor.text_encoder.max_length
        warnings.warn(
            f"{cut} of {len(texts)} texts are longer than the model's {limit} tokens and were cut",
            stacklevel=4,
        )
    yield from run_encodings(asked, encodings, batch_size=batch_size)


def run_encodings(
    asked: Asked, encodings: Sequence[Encoding], *, batch_size: int
) -> Iterator[tuple[int, Encoding, Feeds]]:
    """For each encoding its number, itself and its outputs without padding."""
    order = sorted(range(len(encodings)), key=lambda i: len(encodings[i]))
    specs = asked.model.signature.outputs
    for batch in batches(order, batch_size):
        feeds = asked.preprocessor.text_encoder.feeds([encodings[i] for i in batch])
        outputs = asked.model.run(feeds)
        for row, number in enumerate(batch):
            length = len(encodings[number])
            yield (
                number,
                encodings[number],
                {
                    s.name: outputs[s.name][row][:length]
                    if s.shape[1:2] == ("sequence",)
                    else outputs[s.name][row]
                    for s in specs
                },
            )


def batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """The items in order, `size` at a time."""
    check_batch_size(size)
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def check_batch_size(size: Any) -> None:
    """Raise an InputError for what is no number of items."""
    if type(size) is not int or size < 1:
        raise InputError(f"batch_size is {size!r:.60}, it must be a whole number from 1")


def softmax(logits: Any) -> Any:
    """Probabilities along the last axis."""
    values = np.asarray(logits, dtype=np.float32)
    exponents = np.exp(values - values.max(-1, keepdims=True))
    return exponents / exponents.sum(-1, keepdims=True)


def check_top_k(top_k: int | None) -> None:
    """Raise an InputError if it counts nothing."""
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise InputError(f"top_k is {top_k!r:.60}, it must be 1 or more, or None for all")
