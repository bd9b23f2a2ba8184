"""Text to text: what is written about each source, token by token.

Sutskever et al. 2014, https://arxiv.org/abs/1409.3215.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.tables import PAIRS
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.named import start_folder
from edgetfm.training.data.parts import PARTS, Part, divided, fingerprint
from edgetfm.training.data.tables import parts_said, read_texts_of
from edgetfm.training.objectives._objective import IGNORED, Batch, DataFacts, Rows
from edgetfm.training.objectives._text import padded, sample_of, tokenizer_for, writing_files
from edgetfm.training.objectives.labels import text_feeds
from edgetfm.training.tokenizer import TextTokenizer

MEASURE = "perplexity"


class Pairs:
    """Sources and targets of at most `config.length` tokens each."""

    measure = MEASURE
    labels: tuple[str, ...] = ()

    def __init__(self, config: TrainConfig) -> None:
        name = Path(config.dataset).stem
        rows = read_texts_of(config.dataset, PAIRS, config.columns)
        # A source is in one part, with all that was written about it.
        contents = [row["source"].encode() for row in rows]
        items = list(zip(contents, rows, strict=True))
        parts = divided(items, parts_said(rows), config.shares, name)
        both = [row[key] for row in parts["train"] for key in PAIRS]
        self.tokenizer = tokenizer_for(config, both, "text2text")
        self.pad, self.end = self.tokenizer.number("pad"), self.tokenizer.number("eos")
        self.start = decoder_start(self.tokenizer, config)
        self.ids = {
            key: {
                part: self._ids([row[key] for row in parts[part]], config.length) for part in PARTS
            }
            for key in PAIRS
        }
        whole = ["\0".join(row[key] for key in PAIRS).encode() for row in rows]
        self.data = DataFacts.of(name, fingerprint(whole), parts)
        kept = parts["validation"]
        self.sample = sample_of(
            [row["source"] for row in kept], [{"target": row["target"]} for row in kept]
        )

    def _ids(self, texts: list[str], length: int) -> list[list[int]]:
        """The ids of each text with the one that ends it, whatever the tokenizer adds."""
        rows = self.tokenizer.ids(texts, special=False)
        return [[*row[: length - 1], self.end] for row in rows]

    def follows(self) -> Mapping[str, Any]:
        """The number of tokens."""
        return {"vocabulary": self.tokenizer.vocabulary}

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """What is read, and what is written behind the token that begins every text."""
        sources = [self.ids["source"][part][i] for i in rows]
        targets = [self.ids["target"][part][i] for i in rows]
        return pair_batch(sources, targets, self.start, self.pad)

    def lengths(self, part: Part) -> Rows:
        """Pairs of about one length are learned together."""
        sources, targets = (self.ids[key][part] for key in PAIRS)
        return np.array([len(s) + len(t) for s, t in zip(sources, targets, strict=True)])

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """The tokenizer, how a text begins and ends, and validation sources to calibrate on."""
        return {
            **self.tokenizer.files(),
            **writing_files(self.start, self.end, self.pad),
            "sample.jsonl": self.sample,
        }


def decoder_start(tokenizer: TextTokenizer, config: TrainConfig) -> int:
    """What a text begins with: as the model that is started from says, else the padding token."""
    from edgetfm.assets import read_json

    said = read_json(start_folder(config.start) / "generation_config.json") if config.start else {}
    known = said.get("decoder_start_token_id")
    return known if isinstance(known, int) else tokenizer.number("pad")


def pair_batch(
    sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], start: int, pad: int
) -> Batch:
    """A batch of an encoder-decoder: the decoder reads the targets one token later."""
    encoder = text_feeds(sources, pad)
    decoder = text_feeds([[start, *row[:-1]] for row in targets], pad)
    feeds = {
        "input_ids": encoder["input_ids"],
        "attention_mask": encoder["attention_mask"],
        "decoder_input_ids": decoder["input_ids"],
        "decoder_attention_mask": decoder["attention_mask"],
    }
    return Batch(feeds, padded(targets, IGNORED))
