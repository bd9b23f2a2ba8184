"""Causal language modelling: each token of running text is foretold from those before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgetfm.errors import DataError
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.corpus import read_corpus
from edgetfm.training.data.parts import PARTS, Part
from edgetfm.training.objectives._objective import Batch, DataFacts, Rows
from edgetfm.training.objectives._text import (
    pieces_of,
    sample_of,
    tokenizer_for,
    writing_files,
)

MEASURE = "perplexity"


class Causal:
    """Windows of `config.length` tokens, cut from all texts of a part put one after the other."""

    measure = MEASURE
    labels: tuple[str, ...] = ()

    def __init__(self, config: TrainConfig) -> None:
        self.length = config.length
        corpus = read_corpus(config.dataset, config.shares)
        self.tokenizer = tokenizer_for(config, corpus.parts["train"], "bpe")
        end = self.tokenizer.number("eos")
        self.ids = {part: _joined(self.tokenizer, corpus.parts[part], end) for part in PARTS}
        for part, ids in self.ids.items():
            if len(ids) <= self.length:
                raise DataError(
                    f"{corpus.name}: the {part} part has {len(ids)} tokens, fewer than the "
                    f"{self.length + 1} of one row: give more text or a smaller length"
                )
        self.data = DataFacts(
            corpus.name,
            corpus.fingerprint,
            **{part: (len(ids) - 1) // self.length for part, ids in self.ids.items()},
        )
        self.sample = sample_of(pieces_of(corpus))

    def follows(self) -> Mapping[str, Any]:
        """The number of tokens."""
        return {"vocabulary": self.tokenizer.vocabulary}

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """Windows that begin where the last one ended, in training up to a window later."""
        ids = self.ids[part]
        starts = rows * self.length
        if random is not None:
            starts = starts + random.integers(0, self.length, size=len(starts))
            starts = np.minimum(starts, len(ids) - 1 - self.length)
        windows = ids[starts[:, None] + np.arange(self.length + 1)]
        inputs = np.ascontiguousarray(windows[:, :-1])
        feeds = {"input_ids": inputs, "attention_mask": np.ones_like(inputs)}
        return Batch(feeds, np.ascontiguousarray(windows[:, 1:]))

    def lengths(self, part: Part) -> None:
        """All windows are of one length."""

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """The tokenizer, how a text ends, and validation texts to calibrate on."""
        end = self.tokenizer.number("eos")
        return {
            **self.tokenizer.files(),
            **writing_files(end, end, end),
            "sample.jsonl": self.sample,
        }


def _joined(tokenizer: Any, texts: list[str], end: int) -> Rows:
    rows = tokenizer.ids(texts, special=False)
    return np.array([i for row in rows for i in (*row, end)], dtype=np.int64)
