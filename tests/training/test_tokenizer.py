"""A tokenizer is made alike every time, and its files are read back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgetfm.errors import DataError, InputError
from edgetfm.training.tokenizer import EXTRA, KINDS, MASKED, read_tokenizer
from tests.training.worlds import sentences

TEXTS = [*sentences(200), "Zoë pays 3 € for a naïve goat."]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocabulary", [300, 2000])
def test_the_same_texts_make_the_same_tokenizer(kind: str, vocabulary: int) -> None:
    made = {KINDS[kind](iter(TEXTS), vocabulary, 64).files()["tokenizer.json"] for _ in range(4)}
    assert len(made) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_read_back_from_its_ids(kind: str) -> None:
    tokenizer = KINDS[kind](TEXTS, 500, 64)
    texts = ["the hen hears the duck", "Zoë pays 3 €"]
    lower = ["the hen hears the duck", "zoe pays 3 €"]
    for text, ids, plain in zip(texts, tokenizer.ids(texts, special=False), lower, strict=True):
        assert tokenizer.tokenizer.decode(ids) == (plain if kind == "wordpiece" else text)
    assert tokenizer.vocabulary <= max(500, 256 + 2 + len(EXTRA))


def test_special_tokens_stand_where_models_expect_them(tmp_path: Path) -> None:
    pieces = KINDS["wordpiece"](TEXTS, 300, 64)
    assert [pieces.tokenizer.token_to_id(token) for token in MASKED] == list(range(5))
    (ids,) = pieces.ids(["the hen"], special=True)
    assert (ids[0], ids[-1]) == (pieces.number("cls"), pieces.number("sep"))
    (plain,) = pieces.ids(["a e"], special=False)
    assert pieces.tokenizer.decode(plain) == "a e"
    spans = KINDS["text2text"](TEXTS, 400, 64)
    assert (spans.number("pad"), spans.number("eos")) == (0, 1)
    with pytest.raises(InputError, match="no mask token"):
        spans.number("mask")


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_the_tokenizer(tmp_path: Path, kind: str) -> None:
    made = KINDS[kind](TEXTS, 400, 64)
    for name, content in made.files().items():
        (tmp_path / name).write_bytes(content)
    again = read_tokenizer(tmp_path, 64)
    assert again.special == made.special
    assert again.ids(TEXTS, special=True) == made.ids(TEXTS, special=True)
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(TEXTS)["input_ids"] == made.ids(TEXTS, special=True)
    assert theirs.pad_token_id == made.number("pad")


def test_what_is_no_tokenizer_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer at"):
        read_tokenizer(tmp_path, 64)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": 3}))
    with pytest.raises(DataError, match="is not a tokenizer"):
        read_tokenizer(tmp_path, 64)
