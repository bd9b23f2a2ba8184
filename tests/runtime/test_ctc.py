"""Frames become the text that transformers' tokenizer makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from transformers import Wav2Vec2CTCTokenizer

from edgetfm.ctc_vocabulary import read_vocabulary
from edgetfm.errors import BundleError, SourceError
from edgetfm.runtime.ctc import Letters

TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"abcdé'.,?n", "ch", "N", "T")


def saved(folder: Path, **options: Any) -> Wav2Vec2CTCTokenizer:
    folder.mkdir(exist_ok=True)
    file = folder / "letters.json"
    file.write_text(json.dumps({token: i for i, token in enumerate(TOKENS)}))
    tokenizer = Wav2Vec2CTCTokenizer(str(file), **options)
    tokenizer.save_pretrained(folder)
    return tokenizer  # one that is read again forgets another word delimiter, transformers 5.23


def letters_of(folder: Path) -> Letters:
    return Letters.from_settings(read_vocabulary(folder).preprocessing["ctc"])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Wav2Vec2CTCTokenizer, Letters]]:
    options: list[dict[str, Any]] = [
        {},
        {"do_lower_case": True},
        {"clean_up_tokenization_spaces": True},
        {"pad_token": "d", "word_delimiter_token": "c", "replace_word_delimiter_char": "_"},
    ]
    made = []
    for given in options:
        folder = tmp_path_factory.mktemp("letters")
        made.append((saved(folder, **given), letters_of(folder)))
    return made


@hypothesis.given(st.lists(st.integers(0, len(TOKENS) - 1), max_size=60))
def test_any_frames_are_read_as_transformers_reads_them(
    both: list[tuple[Wav2Vec2CTCTokenizer, Letters]], classes: list[int]
) -> None:
    for theirs, ours in both:
        assert ours.join(np.array(classes, np.int64)) == theirs.decode(classes)


def test_repeats_are_one_letter_and_a_blank_parts_two() -> None:
    letters = Letters(("-", "|", "a", "b"), blank="-")
    assert letters.join(np.array([2, 2, 0, 2, 1, 1, 3, 3, 0, 0])) == "aa b"
    logits = np.eye(4)[[2, 0, 2, 3]]
    assert letters.read(logits) == "aab"
    assert letters.join(np.array([], np.int64)) == ""
    assert letters.join(np.array([2, 99, 99, 3])) == "a<unk>b"  # a class without a token


def test_a_language_of_several_is_named_or_the_folder_is_refused(tmp_path: Path) -> None:
    nested = {"eng": {"<pad>": 0, "<unk>": 1, "a": 2}, "fra": {"<pad>": 0, "<unk>": 1, "é": 2}}
    (tmp_path / "vocab.json").write_text(json.dumps(nested))
    with pytest.raises(SourceError, match="languages eng, fra: name one as target_lang"):
        read_vocabulary(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"target_lang": "fra"}))
    assert letters_of(tmp_path).tokens[2] == "é"


@pytest.mark.parametrize(
    "vocabulary", [{}, {"a": "b"}, {"a": -1}, {"a": 1 << 40}, {"a": 0, "b": 1}]
)
def test_what_is_no_vocabulary_is_refused(vocabulary: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(SourceError, match=r"vocab\.json"):
        read_vocabulary(tmp_path)


def test_without_a_vocabulary_a_note_says_so(tmp_path: Path) -> None:
    found = read_vocabulary(tmp_path)
    assert not found.preprocessing
    assert "no vocab.json" in found.notes[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tokens": []},
        {"tokens": [1], "blank": "a"},
        {"tokens": ["a"]},
        {"tokens": "ab", "x": 1},
    ],
)
def test_malformed_letters_are_bundle_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="how this model writes"):
        Letters.from_settings(settings)
