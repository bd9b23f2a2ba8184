"""Masked language modelling: some tokens of a text are hidden, and foretold from both sides.

Devlin et al. 2018, https://arxiv.org/abs/1810.04805, section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import DataError
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.corpus import read_corpus
from edgetfm.training.data.parts import Part
from edgetfm.training.objectives._objective import IGNORED, Batch, Rows
from edgetfm.training.objectives._text import Windows, tokenizer_for

MEASURE = "perplexity"
CHOSEN = 0.15
"""The share of the tokens that are foretold."""
HIDDEN, SWAPPED = 0.8, 0.1
"""Of those, how many become [MASK] and how many another token; the rest stay as they are."""


class Masked(Windows):
    """Windows of `config.length` tokens between [CLS] and [SEP]."""

    measure = MEASURE

    def __init__(self, config: TrainConfig) -> None:
        corpus = read_corpus(config.dataset, config.shares)
        self.tokenizer = tokenizer_for(config, corpus.parts["train"], "wordpiece")
        self.around = [self.tokenizer.number("cls"), self.tokenizer.number("sep")]
        self.mask = self.tokenizer.number("mask")
        room = config.length - len(self.around)
        if room < 1:
            raise DataError(f"length is {config.length}, too short for a token between two others")
        self.cut(corpus, room)

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """Windows with some tokens hidden: others in every epoch, but the same to judge by."""
        random = random or np.random.default_rng([int(rows[0]), len(rows)])
        cls, sep = self.around
        ids = np.pad(self.rows[part][rows], ((0, 0), (1, 0)), constant_values=cls)
        ids = np.pad(ids, ((0, 0), (0, 1)), constant_values=sep)
        inputs, targets = hidden(ids, self.around, self.mask, self.tokenizer.vocabulary, random)
        feeds = {
            "input_ids": inputs,
            "attention_mask": np.ones_like(inputs),
            "token_type_ids": np.zeros_like(inputs),
        }
        return Batch(feeds, targets)

    def lengths(self, part: Part) -> None:
        """All windows are of one length."""

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """The tokenizer, and validation texts to calibrate on."""
        return {**self.tokenizer.files(), "sample.jsonl": self.sample}


def hidden(
    ids: Rows, kept: list[int], mask: int, vocabulary: int, random: np.random.Generator
) -> tuple[Rows, NDArray[np.int64]]:
    """Inputs and targets of a batch of ids [rows, tokens]; the ids in `kept` are never chosen.

    At least one token is chosen of each row that has one to choose.
    """
    open_ = ~np.isin(ids, kept)
    draws = np.where(open_, random.random(ids.shape), 2.0)
    chosen = draws < CHOSEN
    first = draws.argmin(axis=1)
    rows = np.arange(len(ids))
    chosen[rows, first] |= open_[rows, first]
    targets = np.where(chosen, ids, IGNORED)
    fate = random.random(ids.shape)
    inputs = np.where(chosen & (fate < HIDDEN), mask, ids)
    swapped = chosen & (fate >= HIDDEN) & (fate < HIDDEN + SWAPPED)
    return np.where(swapped, random.integers(0, vocabulary, ids.shape), inputs), targets
