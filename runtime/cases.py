"""The inputs that a model is proven on: real text and pictures at awkward shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from edgetfm.errors import DataError, InputError, in_short
from edgetfm.runtime.images import ImageReader, center_crop, opened
from edgetfm.runtime.joint_cases import joint_cases
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.runtime.sound_cases import BENCH_SECONDS, sound_cases
from edgetfm.runtime.text import Text, TextEncoder
from edgetfm.senses import SENSES_MASK, part_of
from edgetfm.signature import SAMPLES, Feeds, Signature, is_batch
from edgetfm.task import Task

TEXT_SHAPES = ((1, 1), (2, 5), (1, 128), (3, 17), (8, 64))
"""(batch, longest sequence): 1 in each axis, odd sizes, a usual one, a full batch."""
FULL = TEXT_SHAPES[-1]
FEW_TOKENS = 16
"""Tokens of the longest row of the full batch where it has more than MOST_LOGITS: what it is there
for, eight rows of eight lengths, fewer tokens show as well."""
MOST_LOGITS = 1 << 23
LONG_TEXT = 1024
"""Tokens of a text that graphs traced from others' code are asked too: they may take another path
for long ones. No decoder is proven on longer ones either: without a cache each token attends to
all, eagerly."""
LONG_PROMPT, BEYOND = 256, 32
"""Tokens of a text that decoders are asked too, and how many more than a window has it has."""
IMAGE_BATCHES = (1, 2, 3, 8)
FREE_PICTURES = (
    (1, (3, 4), 1.0),
    (1, (4, 3), 0.5),
    (2, (1, 1), 0.25),
    (3, (2, 3), 0.25),
)
"""(batch, height to width, share of the usual size) where pictures of all sizes are taken."""
SMALLEST = 192
"""Pixels of the shorter edge below which no share is taken: patches and strides need some."""
_SIDES = (192, 192)
"""Pixels that every picture that ships has."""
MASK_EVERY = 7
"""For fill-mask one token in seven is masked, about what such models were trained on."""


def parity_cases(
    preprocessor: Preprocessor,
    signature: Signature,
    task: Task,
    items: Sequence[Any],
    *,
    long: int = 0,
) -> list[Feeds]:
    """The same batches every time, made of `items`: what each sense is given, as in Preprocessor.

    Texts are joined and cut until a batch has exactly the shape wanted, or the longest that the
    model takes; its rows have different lengths. A graph of fixed sizes gets no others. long: a
    text of so many tokens is among them. DataError without items.
    """
    if not items:
        raise DataError("no items to make cases of: at least one text or image is needed")
    senses = task.senses
    if any(t.name == SENSES_MASK for t in signature.inputs):
        return joint_cases(preprocessor, signature, senses, items)
    parts = [items] if len(senses) == 1 else list(zip(*items, strict=True))
    cases = [
        _CASES[sense](preprocessor, part_of(signature, sense, senses), task, part, long)
        for sense, part in zip(senses, parts, strict=True)
    ]
    return [
        signature.check({name: array for feeds in together for name, array in feeds.items()})
        for together in _together(cases)
    ]


def long_prompt(window: int) -> int:
    """Tokens of a text that shows what a decoder does at places far from the first.

    window: how many tokens it sees; the text is longer, unless it would be longer than LONG_TEXT.
    """
    beyond = window + BEYOND
    return beyond if LONG_PROMPT < beyond <= LONG_TEXT else LONG_PROMPT


def _together(cases: Sequence[Sequence[Feeds]]) -> Iterator[tuple[Feeds, ...]]:
    """Each sense's cases beside those of the others, the shorter list from its beginning again."""
    for i in range(max(map(len, cases))):
        yield tuple(of_sense[i % len(of_sense)] for of_sense in cases)


def _image_cases(
    preprocessor: Preprocessor, signature: Signature, _task: Task, items: Sequence[Any], _long: int
) -> list[Feeds]:
    fixed, _, *sides = signature.inputs[0].shape
    if any(isinstance(side, str) for side in sides):
        return [_free_case(preprocessor.image_reader, items, *row) for row in FREE_PICTURES]
    return [
        preprocessor.images([items[i % len(items)] for i in range(batch)])
        for batch in ((fixed,) if isinstance(fixed, int) else IMAGE_BATCHES)
    ]


def _free_case(
    reader: ImageReader, items: Sequence[Any], batch: int, ratio: tuple[int, int], share: float
) -> Feeds:
    """The middle of each picture, height to width as `ratio`, at a share of the usual size."""
    share = max(share, min(1.0, SMALLEST / min(reader.usual_size)))
    smaller = replace(reader, resize=reader.resize.scaled(share))
    cut = []
    for i in range(batch):
        pixels = np.asarray(opened(items[i % len(items)]).convert("RGB"))
        unit = min(side // part for side, part in zip(_SIDES, ratio, strict=True))
        cut.append(center_crop(pixels, (unit * ratio[0], unit * ratio[1])))
    return smaller(cut)


def _text_cases(
    preprocessor: Preprocessor, signature: Signature, task: Task, items: Sequence[Any], long: int
) -> list[Feeds]:
    fixed = signature.inputs[0].shape[0]
    encoder = preprocessor.text_encoder
    limits = [limit for limit in (encoder.max_length, encoder.width) if limit is not None]
    longest = min(limits, default=max(length for _, length in TEXT_SHAPES))
    shapes = dict.fromkeys(
        (fixed if isinstance(fixed, int) else batch, min(length, longest))
        for batch, length in (*([(1, long)] if long else []), *_text_shapes(signature, task))
    )
    texts = [" ".join(item) if not isinstance(item, str) else item for item in items]
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise DataError("all texts are empty: no cases can be made of them")
    return [
        _text_case(encoder, task, texts, batch, length, seed)
        for seed, (batch, length) in enumerate(shapes)
    ]


def _text_shapes(signature: Signature, task: Task) -> list[tuple[int, int]]:
    """TEXT_SHAPES, a full batch with fewer tokens where a decoder has a large vocabulary.

    Logits are most of what is computed, compared and kept then: 100 MB for 8 texts of 64 tokens
    and a vocabulary of 49,152, and some of it in every comparison.
    """
    wide = (o.shape[-1] for o in signature.outputs if o.name == "logits")
    vocabulary = max((size for size in wide if isinstance(size, int)), default=1)
    few = task.generates and FULL[0] * FULL[1] * vocabulary > MOST_LOGITS
    return [(batch, FEW_TOKENS) if few and (batch, length) == FULL else (batch, length)
            for batch, length in TEXT_SHAPES]  # fmt: skip


_CASES: dict[str, Callable[[Preprocessor, Signature, Task, Sequence[Any], int], list[Feeds]]] = {
    "text": _text_cases,
    "image": _image_cases,
    "audio": lambda preprocessor, signature, _task, items, _long: sound_cases(
        preprocessor.audio_reader, signature, items
    ),
}
"""Sense -> its part of the cases, for the part of the signature that is its own."""


def feeds_of_shape(
    preprocessor: Preprocessor, signature: Signature, task: Task, batch: int, sequence: int
) -> Feeds:
    """One batch of exactly this shape, without padding, of no meaning.

    InputError if the model does not take so long a text, or memory not the shape. `sequence` is no
    matter for images, and waves are BENCH_SECONDS long.
    """
    sizes = {axis: batch for axis in signature.axes if is_batch(axis)}
    if preprocessor.image is not None:
        sizes |= dict(zip(("height", "width"), preprocessor.image.usual_size, strict=True))
    if preprocessor.audio is not None:
        sizes[SAMPLES] = round(BENCH_SECONDS * preprocessor.audio.sampling_rate)
    with held_by_memory(batch, sequence):
        feeds = meaningless(signature, sizes, sequence)
    encoder = preprocessor.text
    if encoder is None:
        return signature.check(feeds)
    if encoder.max_length is not None and sequence > encoder.max_length:
        raise InputError(f"sequence is {sequence}, the model takes {encoder.max_length} at most")
    row = _row(encoder, task, ["one two three four five six seven eight"], sequence, 0)
    return signature.check({**feeds, **{name: [values] * batch for name, values in row.items()}})


@contextmanager
def held_by_memory(batch: int, sequence: int) -> Iterator[None]:
    """What numpy says of a shape that is too large becomes an InputError that names the options.

    Of sizes beyond 64 bits it says ValueError or OverflowError.
    """
    try:
        yield
    except (MemoryError, ValueError, OverflowError) as error:
        raise InputError(
            f"memory does not hold inputs of --batch {batch} and --sequence {sequence}, "
            f"choose smaller ones: {in_short(error)}"
        ) from error


def meaningless(signature: Signature, sizes: Mapping[str, int], other: int) -> Feeds:
    """Inputs of these sizes, and `other` for free axes that are not named: noise, zeros and ones.

    Zero is an id that every table has; masks and flags are all true.
    """
    random = np.random.default_rng(0)
    feeds: Feeds = {}
    for spec in signature.inputs:
        shape = [sizes.get(a, other) if isinstance(a, str) else a for a in spec.shape]
        if spec.dtype.startswith("float") and "mask" not in spec.name:
            feeds[spec.name] = random.standard_normal(shape).astype(spec.dtype)
        else:
            true = spec.dtype == "bool" or spec.name in ("attention_mask", SENSES_MASK)
            feeds[spec.name] = np.full(shape, int(true), dtype=spec.dtype)
    return feeds


def _text_case(
    encoder: TextEncoder, task: Task, texts: Sequence[str], batch: int, length: int, seed: int
) -> Feeds:
    lengths = [max(1, length - row * length // batch) for row in range(batch)]
    rows = [
        _row(encoder, task, texts, wanted, seed + 3 * row) for row, wanted in enumerate(lengths)
    ]
    feeds: Feeds = {}
    for name in encoder.names:
        fill = encoder.pad_token_id if name == "input_ids" else 0
        array = np.full((batch, encoder.width or length), fill, dtype=np.int64)
        for line, row in zip(array, rows, strict=True):
            line[: len(row[name])] = row[name]
        feeds[name] = array
    return feeds


def _row(
    encoder: TextEncoder, task: Task, texts: Sequence[str], length: int, start: int
) -> dict[str, list[int]]:
    """Exactly `length` tokens of text from number `start` on, special tokens included."""
    pair = task.name == "question-answering"
    # Shorter than its special tokens and one word, a text is encoded longer and then cut.
    limit = max(length, encoder.tokenizer.num_special_tokens_to_add(pair) + 1 + pair)
    joined = ""
    for i in range(10 * limit):
        joined = f"{joined} {texts[(start + i) % len(texts)]}".strip()
        words = joined.split(" ")
        text: Text = (" ".join(words[:6]), " ".join(words[6:])) if pair else joined
        (encoding,) = encoder.encode([text], max_length=limit)
        if len(encoding) == limit:
            break
    else:
        raise DataError(f"the sample text has too few tokens to make {length} of them")
    ids = list(encoding.ids)
    if task.name == "fill-mask":
        _mask(encoder, ids, encoding.special_tokens_mask)
    values = {"input_ids": ids, "attention_mask": [1] * limit, "token_type_ids": encoding.type_ids}
    return {name: values[name][:length] for name in encoder.names}


def _mask(encoder: TextEncoder, ids: list[int], special: Sequence[int]) -> None:
    mask = encoder.tokenizer.token_to_id(encoder.token("mask_token") or "")
    if mask is not None:
        for i in range(1, len(ids), MASK_EVERY):
            if not special[i]:
                ids[i] = mask
