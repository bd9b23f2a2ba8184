"""The tokenizer of a model that reads text: one from a file, or one made for its text."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetfm.errors import DataError, InputError

END = "<|endoftext|>"
"""Stands between two texts, ends one that is written, and fills up short rows."""

MASKED = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's special tokens, in its order."""


LETTERS = 1000
"""The most letters that pieces of words are made of; a word with another one is [UNK]."""
EXTRA = tuple(f"<extra_id_{i}>" for i in range(100))
"""What stands for a piece of text that was cut out, as T5 names it."""


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
    made = _byte_pairs(texts, vocabulary, [END])
    roles = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END)
    return TextTokenizer(made, roles, longest)


def text_to_text(texts: Iterable[str], vocabulary: int, longest: int) -> TextTokenizer:
    """Byte pairs with </s> behind each text and the tokens that stand for spans, as T5's."""
    from tokenizers import processors

    made = _byte_pairs(texts, vocabulary, ["<pad>", "</s>", *EXTRA])
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>",
        pair="$A </s> $B </s>",
        special_tokens=[("</s>", made.token_to_id("</s>"))],
    )
    return TextTokenizer(made, {"eos_token": "</s>", "pad_token": "<pad>"}, longest)


def _byte_pairs(texts: Iterable[str], vocabulary: int, special: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    _train(made, trainer, texts)
    return made


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

    normalizer = normalizers.BertNormalizer(lowercase=True)
    words = pre_tokenizers.BertPreTokenizer()
    whole = list(texts)
    letters = _letters((normalizer.normalize_str(text) for text in whole), words)
    rough = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    rough.normalizer, rough.pre_tokenizer = normalizer, words
    # The trainer numbers pieces of one letter by a hash that differs from run to run, unless it
    # is told them as special tokens. They are none, so the vocabulary moves to another tokenizer.
    special = [*MASKED, *letters, *(f"##{letter}" for letter in letters)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=special, show_progress=False
    )
    _train(rough, trainer, whole)
    made = Tokenizer(models.WordPiece(rough.get_vocab(), unk_token="[UNK]"))
    made.add_special_tokens(list(MASKED))
    made.normalizer, made.pre_tokenizer = normalizer, words
    made.decoder = decoders.WordPiece()
    around = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=around
    )
    roles = {f"{token.strip('[]').lower()}_token": token for token in MASKED}
    return TextTokenizer(made, roles, longest)


def _letters(texts: Iterable[str], words: Any) -> list[str]:
    """The commonest LETTERS letters of all words, in an order of their own."""
    counts = Counter(c for text in texts for word, _ in words.pre_tokenize_str(text) for c in word)
    common = sorted(counts, key=lambda letter: (-counts[letter], letter))[:LETTERS]
    return sorted(common)


KINDS = {"bpe": byte_pairs, "wordpiece": word_pieces, "text2text": text_to_text}
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
