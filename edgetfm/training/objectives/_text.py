"""What the objectives on text share: their tokenizer, and the texts a checkpoint keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import DataError, InputError
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.corpus import Corpus, pieces
from edgetfm.training.data.named import start_folder
from edgetfm.training.data.parts import PARTS
from edgetfm.training.objectives._objective import DataFacts
from edgetfm.training.tokenizer import KINDS, TextTokenizer, read_tokenizer

SAMPLES = 256
"""The most validation texts in sample.jsonl, for calibration; test texts are never among them."""


def tokenizer_for(config: TrainConfig, texts: Iterable[str], kind: str) -> TextTokenizer:
    """The tokenizer of the model that is started from, or of a path, or one made for the texts.

    kind: what is made unless the configuration says.
    """
    said = config.tokenizer
    if config.start or "path" in said:
        return read_tokenizer(
            Path(said["path"]) if "path" in said else start_folder(config.start), config.length
        )
    made = KINDS.get(said.get("kind", kind))
    if made is None:
        raise InputError(f"tokenizer.kind is {said['kind']!r}, known are {', '.join(KINDS)}")
    return made(texts, said.get("vocabulary", 4096), config.length)


def sample_of(texts: Sequence[str], rows: Sequence[dict[str, Any]] | None = None) -> bytes:
    """At most SAMPLES of the texts, those with the smallest hashes, as the lines of a .jsonl file.

    rows: what else is said of each text.
    """
    digests = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in texts]
    chosen = sorted(sorted(range(len(texts)), key=digests.__getitem__)[:SAMPLES])
    lines = [{"text": texts[i], **(rows[i] if rows else {})} for i in chosen]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def padded(rows: Sequence[Sequence[int]], fill: int) -> NDArray[np.int64]:
    """Rows of ids [rows, longest], filled up on the right."""
    longest = max(map(len, rows))
    made = np.full((len(rows), longest), fill, dtype=np.int64)
    for i, row in enumerate(rows):
        made[i, : len(row)] = row
    return made


def windows(rows: Sequence[Sequence[int]], length: int, part: str) -> NDArray[np.int64]:
    """Rows of ids one after the other, cut into windows [count, length]; the rest is left out."""
    ids = np.array([i for row in rows for i in row], dtype=np.int64)
    count = len(ids) // length
    if not count:
        raise DataError(
            f"the {part} part has {len(ids)} tokens, fewer than the {length} of one row: give "
            "more text or a smaller length"
        )
    return ids[: count * length].reshape(count, length)


def pieces_of(corpus: Corpus) -> list[str]:
    """Validation texts, cut into pieces of about a window."""
    return [piece for text in corpus.parts["validation"] for piece in pieces(text, 1000)]


class Windows:
    """An objective on windows of texts, all of one length."""

    labels: tuple[str, ...] = ()
    tokenizer: TextTokenizer

    def cut(self, corpus: Corpus, length: int) -> None:
        """Make the rows [count, length] of each part, and what is told and kept of them."""
        self.rows = {
            part: windows(self.tokenizer.ids(corpus.parts[part], special=False), length, part)
            for part in PARTS
        }
        sizes = {part: len(self.rows[part]) for part in PARTS}
        self.data = DataFacts(corpus.name, corpus.fingerprint, **sizes)
        self.sample = sample_of(pieces_of(corpus))

    def follows(self) -> Mapping[str, Any]:
        """The number of tokens."""
        return {"vocabulary": self.tokenizer.vocabulary}


def writing_files(start: int, end: int, pad: int) -> dict[str, bytes]:
    """generation_config.json: with what a text that is written begins and ends."""
    said = {
        "decoder_start_token_id": start,
        "bos_token_id": start,
        "eos_token_id": end,
        "pad_token_id": pad,
    }
    return {"generation_config.json": (json.dumps(said, indent=2) + "\n").encode()}
