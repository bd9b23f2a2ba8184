"""The tokenizer of a model that reads text: one from a file, or one made for its text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetfm.errors import DataError, InputError

END = "<|endoftext|>"
"""Stands between two texts, ends one that is written, and fills up short rows."""

MASKED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's special tokens, in its order."""


@dataclass(frozen=True)
class TextTokenizer:
    """A tokenizer of the `tokenizers` library, and the files that a checkpoint keeps of it."""

    tokenizer: Any
    special: dict[str, str]
    longest: int

    @property
    def vocabulary(self) -> int:
        """How many ids there are."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    def number(self, role: str) -> int:
        """The id of the 'eos', 'pad', 'mask', 'cls' or 'sep' token; InputError without one."""
        found = self.tokenizer.token_to_id(self.special.get(f"{role}_token", ""))
        if found is None:
            raise InputError(f"the tokenizer has no {role} token; it has {self.special or 'none'}")
        return int(found)

    def ids(self, texts: Iterable[str], *, special: bool) -> list[list[int]]:
        """The ids of each text, whole; special: with what the tokenizer puts around a text."""
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=special)
        return [e.ids for e in encoded]

    def files(self) -> dict[str, bytes]:
        """tokenizer.json and tokenizer_config.json, as Hugging Face's programs read them."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.longest,
            **self.special,
        }
        return {
            "tokenizer.json": self.tokenizer.to_str(pretty=True).encode(),
            "tokenizer_config.json": (json.dumps(config, indent=2) + "\n").encode(),
        }


def byte_pairs(texts: Iterable[str], vocabulary: int, longest: int) -> TextTokenizer:
    """Byte-level byte pairs of these texts, as GPT-2's: any text can be written and read back.

    Sennrich et al. 2015, https://arxiv.org/abs/1508.07909.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    _train(
        made,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
        texts,
    )
    roles = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END)
    return TextTokenizer(made, roles, longest)


def word_pieces(texts: Iterable[str], vocabulary: int, longest: int) -> TextTokenizer:
    """Lower-case word pieces of these texts with [CLS] and [SEP] around each, as BERT's.

    Wu et al. 2016, https://arxiv.org/abs/1609.08144.
    """
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # a token, no password
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    _train(
        made,
        trainers.WordPieceTrainer(
            vocab_size=vocabulary, special_tokens=list(MASKED), show_progress=False
        ),
        texts,
    )
    around = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around
    )
    roles = {f"{token.strip('[]').lower()}_token": token for token in MASKED}
    return TextTokenizer(made, roles, longest)


KINDS = {"bpe": byte_pairs, "wordpiece": word_pieces}
"""The `kind` of the table `tokenizer` -> how one is made."""


def _train(made: Any, trainer: Any, texts: Iterable[str]) -> None:
    """Train in one thread: with several, ties fall differently from run to run."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        made.train_from_iterator(texts, trainer)
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def read_tokenizer(folder: Path, longest: int) -> TextTokenizer:
    """The tokenizer in a model's folder, or in a tokenizer.json."""
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json" if folder.is_dir() else folder
    try:
        made = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"no tokenizer at {file}: {error.strerror or error}") from error
    except Exception as error:  # the Rust library raises bare Exception
        raise DataError(f"{file} is not a tokenizer: {error}") from error
    made.no_truncation()
    made.no_padding()
    return TextTokenizer(made, _roles(file.parent, made), longest)


def _roles(folder: Path, made: Any) -> dict[str, str]:
    """The special tokens that tokenizer_config.json names, else those of a BERT that are there."""
    known = {f"{token.strip('[]').lower()}_token": token for token in MASKED}
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}
    found = {k: v for k, v in known.items() if made.token_to_id(v) is not None}
    for key, value in config.items():
        name = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(name, str) and made.token_to_id(name) is not None:
            found[key] = name
    return found
