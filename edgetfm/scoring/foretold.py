"""How well a model foretells texts: the exponential of its mean loss over their tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import DataError
from edgetfm.scoring.examples import BATCH, Example
from edgetfm.scoring.score import Counts, Score, ratio

if TYPE_CHECKING:
    from edgetfm.runtime.generation.decoder import Decoder
    from edgetfm.runtime.pipelines import Pipeline

MASK_EVERY = 7
"""For fill-mask one token in seven is hidden, about what such models were trained on."""
WINDOW = 512
"""The most tokens that are read at once: logits of many words are large."""
LARGEST = 700.0
"""A mean loss in nats whose exponential is still a number."""


def measure_foretold(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    """exp of the mean loss at all tokens but each text's first, each after those before it.

    A text is cut into windows of the model's context, or of WINDOW tokens: the first tokens of a
    window are foretold from few others.
    """
    from edgetfm.runtime.generation.decoder import Decoder

    decoder = Decoder(pipe.model)
    encoder = pipe.preprocessor.text_encoder
    counts = [_read(decoder, encoder.ids(example.asked)) for example in examples]
    return {"perplexity": _perplexity(counts, "the texts are too short: no token comes second")}


def measure_masked(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    """exp of the mean loss at hidden tokens: which ones, a text's hash decides."""
    encoder = pipe.preprocessor.text_encoder
    mask = encoder.tokenizer.token_to_id(encoder.token("mask_token") or "")
    if mask is None:
        raise DataError("the tokenizer has no mask token, so nothing can be hidden and guessed")
    encodings = encoder.encode([e.asked for e in examples])
    counts = np.zeros((len(examples), 2))
    order = sorted(range(len(encodings)), key=lambda i: len(encodings[i]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        feeds = encoder.feeds([encodings[i] for i in chosen])
        ids = feeds["input_ids"].copy()
        places = [
            (row, p)
            for row, i in enumerate(chosen)
            for p, special in enumerate(encodings[i].special_tokens_mask)
            if not special and p % MASK_EVERY == examples[i].digest[-1] % MASK_EVERY
        ]
        if not places:
            continue
        rows, columns = np.array(places).T
        feeds["input_ids"][rows, columns] = mask
        logits = pipe.model.run(feeds)["logits"][rows, columns]
        losses = _losses(logits, ids[rows, columns])
        np.add.at(counts, np.array(chosen)[rows], np.stack([losses, np.ones(len(rows))], axis=1))
    return {"perplexity": _perplexity(counts, "the texts are too short: no token was hidden")}


def _read(decoder: Decoder, ids: Sequence[int]) -> tuple[float, float]:
    """The loss of a text, and of how many tokens it is the sum."""
    width, total = min(decoder.context, WINDOW), 0.0
    cuts = [*range(0, len(ids) - 1, width), len(ids) - 1]
    for start, end in pairwise(cuts):
        tokens = np.array([ids[start:end]], np.int64)
        binding = decoder.bind(decoder.cache(1, end - start))
        logits = binding.step(tokens, [end - start], every=True)[0]
        total += float(_losses(logits, np.array(ids[start + 1 : end + 1])).sum())
    return total, max(0.0, len(ids) - 1.0)


def _losses(logits: NDArray[np.floating], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cross entropy in nats of each row of logits [rows, vocabulary]."""
    exact = logits.astype(np.float64)
    top = exact.max(-1)
    total = top + np.log(np.exp(exact - top[:, None]).sum(-1))
    return np.asarray(total - exact[np.arange(len(ids)), ids], np.float64)


def _perplexity(counts: Counts | Sequence[tuple[float, float]], none: str) -> Score:
    """Of the losses and tokens of each text; a DataError says `none` where there is no token."""
    each = np.asarray(counts, np.float64)
    if not each[:, 1].any():
        raise DataError(none)
    return Score.of_counts(each, lambda sums: math.exp(min(ratio(sums), LARGEST)))
