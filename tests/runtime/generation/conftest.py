"""Tokenizers of each kind of decoder, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS = ["▁the", "▁boat", "▁", "th", "e", "▁é", ",", ".", "▁and", "s", "▁the▁boat", "n't"]


def byte_level() -> Tokenizer:
    """GPT-2's kind: every token is some bytes, which may be a part of a character."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("ð", "Ł"), ("ðŁ", "ĺ"), ("Ã", "©")]
    pieces = [*alphabet, *(a + b for a, b in merges)]
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    tokenizer.add_tokens(["<tool>"])
    return tokenizer


def llama() -> Tokenizer:
    """Llama 2's kind: spaces are ▁, bytes stand for characters without a token."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    pieces = ["<unk>", "<s>", "</s>", *bytes_, *WORDS, *"▁abcdefghijklmnopqrstuvwxyz!é"]
    tokenizer = Tokenizer(
        models.BPE(
            {p: i for i, p in enumerate(dict.fromkeys(pieces))}, [], unk_token="<unk>",
            byte_fallback=True, fuse_unk=True,
        )
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def metaspace() -> Tokenizer:
    """T5's kind: a unigram model with ▁."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = dict.fromkeys(["<unk>", *WORDS, *"▁abcdefghijklmnopqrstuvwxyz!é日"])
    tokenizer = Tokenizer(models.Unigram([(p, -float(i)) for i, p in enumerate(pieces)], 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer


def word_piece() -> Tokenizer:
    """BERT's kind: a space before each word, none before ## and punctuation."""
    from tokenizers import Tokenizer, decoders, models

    pieces = ["[UNK]", "the", "boat", "##s", "##n", ",", ".", "do", "n't", "'", "s", "!"]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[UNK]"])
    return tokenizer


def suffixed() -> Tokenizer:
    """OpenAI's first GPT: the end of a word is marked."""
    from tokenizers import Tokenizer, decoders, models

    pieces = ["<unk>", "the</w>", "bo", "at</w>", ",</w>", "s</w>", "é</w>"]
    tokenizer = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.BPEDecoder()
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    make.__name__: make for make in (byte_level, llama, metaspace, word_piece, suffixed)
}


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Tokenizer]:
    """One of each kind."""
    return {name: make() for name, make in KINDS.items()}
