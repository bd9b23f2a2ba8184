"""Texts of one length, made of texts of any."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetfm.errors import DataError
from edgetfm.runtime.text import TextEncoder
from edgetfm.search.windows import windows
from edgetfm.signature import Signature, TensorSpec
from tests.decoders import make_decoder_tokenizer

IDS = TensorSpec("input_ids", "int64", ("batch", "sequence"))


@pytest.fixture
def encoder(tmp_path: Path, texts: list[str]) -> TextEncoder:
    make_decoder_tokenizer(texts).save_pretrained(tmp_path)
    return TextEncoder(tmp_path, {"max_length": 128}, Signature((IDS,), ()))


def test_nothing_of_the_texts_is_lost_before_the_last_cut(
    encoder: TextEncoder, texts: list[str]
) -> None:
    made = windows(encoder, texts, 16, 4)
    whole = encoder.ids("".join(f"{text}\n" for text in texts))
    ids = [n for feeds in made for row in feeds["input_ids"] for n in row]
    assert ids == whole[: len(ids)]
    assert len(whole) - len(ids) < 16
    assert all(len(feeds["input_ids"]) <= 4 for feeds in made)


def test_as_many_cuts_as_asked_for(encoder: TextEncoder, texts: list[str]) -> None:
    made = windows(encoder, texts, 16, 4, most=6)
    assert [feeds["input_ids"].shape for feeds in made] == [(4, 16), (2, 16)]


def test_few_tokens_are_one_short_text(encoder: TextEncoder) -> None:
    (feeds,) = windows(encoder, [("It is", "late")], 100, 4)
    assert feeds["input_ids"].shape[1] < 100
    assert feeds["attention_mask"].all()


def test_nothing_to_foretell_is_refused(encoder: TextEncoder) -> None:
    with pytest.raises(DataError, match="1 texts have 1 tokens"):
        windows(encoder, [""], 16, 4)
