"""Span corruption: pieces of a text are cut out, and written in their order.

Raffel et al. 2019, https://arxiv.org/abs/1910.10683, section 3.1.4: 15 % of the tokens in spans
of 3 on average; each span is read as one token of its own and written behind that token.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgetfm.errors import InputError
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.corpus import read_corpus
from edgetfm.training.data.parts import Part
from edgetfm.training.objectives._objective import Batch, Rows
from edgetfm.training.objectives._text import Windows, tokenizer_for, writing_files
from edgetfm.training.objectives.pairs import decoder_start, pair_batch
from edgetfm.training.tokenizer import EXTRA

MEASURE = "perplexity"
CUT, SPAN = 0.15, 3.0
"""The share of the tokens that are cut out, and how many a span has on average."""


class Spans(Windows):
    """Windows of `config.length` tokens with spans cut out of them."""

    measure = MEASURE

    def __init__(self, config: TrainConfig) -> None:
        corpus = read_corpus(config.dataset, config.shares)
        self.tokenizer = tokenizer_for(config, corpus.parts["train"], "text2text")
        self.pad, self.end = self.tokenizer.number("pad"), self.tokenizer.number("eos")
        self.start = decoder_start(self.tokenizer, config)
        known = (self.tokenizer.tokenizer.token_to_id(name) for name in EXTRA)
        self.marks = [number for number in known if number is not None]
        if len(self.marks) < spans_of(config.length):
            raise InputError(
                f"the tokenizer has {len(self.marks)} tokens <extra_id_0>, <extra_id_1> and so on; "
                f"rows of {config.length} tokens take {spans_of(config.length)}"
            )
        self.cut(corpus, config.length - 1)

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """Other spans in every epoch, but the same to judge by."""
        random = random or np.random.default_rng([int(rows[0]), len(rows)])
        cut = [corrupted(self.rows[part][i].tolist(), self.marks, random) for i in rows]
        return pair_batch(
            [[*source, self.end] for source, _ in cut],
            [[*target, self.end] for _, target in cut],
            self.start,
            self.pad,
        )

    def lengths(self, part: Part) -> None:
        """All windows are of about one length."""

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """The tokenizer, how a text begins and ends, and validation texts to calibrate on."""
        return {
            **self.tokenizer.files(),
            **writing_files(self.start, self.end, self.pad),
            "sample.jsonl": self.sample,
        }


def spans_of(length: int) -> int:
    """How many spans are cut out of so many tokens."""
    return max(1, round(length * CUT / SPAN))


def corrupted(
    ids: list[int], marks: list[int], random: np.random.Generator
) -> tuple[list[int], list[int]]:
    """What is left of some ids, and what was cut out: marked alike, in their order.

    Put together again they are the ids. Between two spans at least one token stays.
    """
    count = spans_of(len(ids))
    cut = _divided(max(count, round(len(ids) * CUT)), count, random)
    left = _divided(len(ids) - sum(cut), count, random)
    source: list[int] = []
    target: list[int] = []
    place = 0
    for mark, stays, goes in zip(marks, left, cut, strict=False):
        source += [*ids[place : place + stays], mark]
        place += stays
        target += [mark, *ids[place : place + goes]]
        place += goes
    return source + ids[place:], target


def _divided(total: int, parts: int, random: np.random.Generator) -> list[int]:
    """`total` as a sum of so many positive numbers, each way as likely."""
    ends = np.sort(random.choice(np.arange(1, total), size=parts - 1, replace=False))
    return [int(n) for n in np.diff([0, *ends, total])]
