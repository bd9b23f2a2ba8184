"""Text classification: a label for each text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.errors import DataError, listed
from edgetfm.quantize.readers import TEXT_COLUMNS
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.parts import PARTS, Part, divided, fingerprint
from edgetfm.training.data.tables import parts_said, read_texts_of
from edgetfm.training.objectives._objective import Batch, DataFacts, Rows
from edgetfm.training.objectives._text import padded, sample_of, tokenizer_for

MEASURE = "accuracy"
SHOWN = 10
"""Contradicting rows that are named; the others are counted."""
COLUMNS = {"text": TEXT_COLUMNS, "label": ("label", "labels", "class", "category", "sentiment")}


class Labels:
    """Texts of at most `config.length` tokens, each with one of the labels."""

    measure = MEASURE

    def __init__(self, config: TrainConfig) -> None:
        name = Path(config.dataset).stem
        given = read_texts_of(config.dataset, COLUMNS, config.columns)
        rows = _distinct(given)
        self.labels = tuple(sorted({row["label"] for row in rows}))
        if len(self.labels) < 2:
            raise DataError(
                f"{name}: all {len(rows)} rows have the label '{self.labels[0]}'; "
                "a classifier needs two"
            )
        items = [(_letters(row["text"].encode()), row) for row in given]
        held = divided(items, parts_said(given), config.shares, name)
        parts = {part: _distinct(held[part]) for part in PARTS}
        _check_seen(name, self.labels, parts["train"])
        texts = {part: [row["text"] for row in parts[part]] for part in PARTS}
        self.tokenizer = tokenizer_for(config, texts["train"], "wordpiece")
        self.pad = self.tokenizer.number("pad")
        self.tokenizer.tokenizer.enable_truncation(config.length)
        self.ids = {part: self.tokenizer.ids(texts[part], special=True) for part in PARTS}
        self.tokenizer.tokenizer.no_truncation()
        number = {label: i for i, label in enumerate(self.labels)}
        self.numbers = {part: np.array([number[r["label"]] for r in parts[part]]) for part in PARTS}
        whole = (row["text"].encode() for row in rows)
        self.data = DataFacts.of(name, fingerprint(whole), parts)
        self.data.notes.extend(_left_out(given, rows))
        kept = parts["validation"]
        self.sample = sample_of(texts["validation"], [{"label": row["label"]} for row in kept])

    def follows(self) -> Mapping[str, Any]:
        """The numbers of tokens and of labels."""
        return {"vocabulary": self.tokenizer.vocabulary, "labels": len(self.labels)}

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """The texts as they are, filled up to the longest of them."""
        return Batch(
            text_feeds([self.ids[part][i] for i in rows], self.pad), self.numbers[part][rows]
        )

    def lengths(self, part: Part) -> Rows:
        """Texts of about one length are learned together."""
        return np.array([len(ids) for ids in self.ids[part]])

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """The tokenizer, and validation texts with their labels to calibrate on and judge by."""
        return {**self.tokenizer.files(), "sample.jsonl": self.sample}


def text_feeds(rows: Sequence[Sequence[int]], pad: int) -> dict[str, Any]:
    """What encoders of text take, whichever of it: ids, which of them are real, types."""
    ids = padded(rows, pad)
    mask = padded([[1] * len(row) for row in rows], 0)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _distinct(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Each text once, with the label it came with first."""
    return list({row["text"]: row for row in reversed(rows)}.values())[::-1]


def _left_out(given: list[dict[str, str]], kept: list[dict[str, str]]) -> list[str]:
    """How many rows are not learned since they say a text again, and how many say it otherwise."""
    if not (again := len(given) - len(kept)):
        return []
    label = {row["text"]: row["label"] for row in kept}
    otherwise = [n for n, row in enumerate(given, 1) if row["label"] != label[row["text"]]]
    said = f"{again} of {len(given)} rows say a text again and are left out"
    if otherwise:
        rows = ", ".join(map(str, otherwise[:SHOWN])) + (" ..." if otherwise[SHOWN:] else "")
        said += f", {len(otherwise)} of them with another label than its first one: rows {rows}"
    return [said]


def _letters(text: bytes) -> bytes:
    """What decides on the part: a text with other spaces or stops is in the part of the first."""
    return re.sub(rb"[^0-9a-z\x80-\xff]+", b"", text.lower()) or text


def _check_seen(name: str, labels: tuple[str, ...], train: list[dict[str, str]]) -> None:
    unseen = sorted(set(labels) - {row["label"] for row in train})
    if unseen:
        raise DataError(
            f"{name} is too small:\n" + listed(f"no training text is '{label}'" for label in unseen)
        )
