"""Texts become what transformers makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.text import TextEncoder
from edgetfm.signature import Signature, TensorSpec

NAMES = {
    "bert": ("input_ids", "attention_mask", "token_type_ids"),
    "roberta": ("input_ids", "attention_mask"),
    "mpnet": ("input_ids", "attention_mask"),
}


def encoder_for(folder: Path, model_type: str, **settings: Any) -> TextEncoder:
    inputs = tuple(TensorSpec(n, "int64", ("batch", "sequence")) for n in NAMES[model_type])
    return TextEncoder(folder, settings, Signature(inputs, ()))


@pytest.fixture(scope="module", params=NAMES)
def pair(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_tokenizer: Callable[[str], Any],
) -> tuple[Any, TextEncoder]:
    """transformers' tokenizer and ours from the same files."""
    model_type = str(request.param)
    folder = tmp_path_factory.mktemp(model_type)
    theirs = tiny_tokenizer(model_type)
    theirs.save_pretrained(folder)
    ours = encoder_for(folder, model_type, max_length=64, pad_token_id=theirs.pad_token_id)
    return theirs, ours


def assert_same(ours: dict[str, Any], theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        assert array.dtype == np.int64
        np.testing.assert_array_equal(array, np.array(theirs[name]))


AWKWARD = [
    "",
    " ",
    "a",
    "ünïcödé — 日本語 🙂",
    "tab\tand\nnewline",
    "x" * 500,
    "<mask> [MASK] </s>",
]


def test_texts_are_tokenized_padded_and_cut_as_transformers_does(
    pair: tuple[Any, TextEncoder], texts: list[str]
) -> None:
    theirs, ours = pair
    given = texts + AWKWARD + [" ".join(texts)]
    assert_same(ours(given), theirs(given, padding=True, truncation=True))
    assert_same(
        ours(given, max_length=9), theirs(given, padding=True, truncation=True, max_length=9)
    )


def test_pairs_are_tokenized_as_transformers_does(
    pair: tuple[Any, TextEncoder], texts: list[str]
) -> None:
    theirs, ours = pair
    pairs = [(a, b) for a in [*texts[:3], ""] for b in texts[3:]]
    wanted = theirs([a for a, _ in pairs], [b for _, b in pairs], padding=True, truncation=True)
    assert_same(ours(pairs), wanted)


def test_max_length_never_exceeds_the_model(
    pair: tuple[Any, TextEncoder], texts: list[str]
) -> None:
    _, ours = pair
    assert ours([" ".join(texts)], max_length=10_000)["input_ids"].shape == (1, 64)


def test_a_real_tokenizer_agrees(minilm_folder: Path, texts: list[str]) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(minilm_folder)
    ours = encoder_for(minilm_folder, "bert", max_length=128)
    given = texts + AWKWARD + [" ".join(texts * 5)]
    assert_same(ours(given), theirs(given, padding=True, truncation=True, max_length=128))


def test_tokenizer_settings_of_its_own_do_not_leak_in(minilm_folder: Path, tmp_path: Path) -> None:
    data = json.loads((minilm_folder / "tokenizer.json").read_text())
    data["truncation"] = {
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    data["padding"] = {
        "strategy": {"Fixed": 50}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 7, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    ours = encoder_for(tmp_path, "bert", max_length=128)
    assert_same(
        ours(["one two three four five"]),
        encoder_for(minilm_folder, "bert")(["one two three four five"]),
    )


def test_lowercase_is_applied_when_asked(pair: tuple[Any, TextEncoder]) -> None:
    _, ours = pair
    lower = TextEncoder(
        ours.folder,
        {"lowercase": True, "pad_token_id": ours.pad_token_id},
        Signature(tuple(TensorSpec(n, "int64", ("batch", "sequence")) for n in ours.names), ()),
    )
    np.testing.assert_array_equal(lower(["MARIA"])["input_ids"], ours(["maria"])["input_ids"])
    np.testing.assert_array_equal(
        lower([("A", "OSLO")])["input_ids"], ours([("a", "oslo")])["input_ids"]
    )


def test_special_tokens_are_found_by_name(pair: tuple[Any, TextEncoder]) -> None:
    theirs, ours = pair
    assert ours.token("mask_token") == theirs.mask_token
    assert ours.token("unk_token") == theirs.unk_token
    assert ours.token("no_such_token") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no texts"),
        (7, "got int"),
        (b"bytes", "got bytes"),
        (["fine", None, 3.5], "text 1 is NoneType.*\n.*text 2 is float"),
    ],
)
def test_what_is_no_text_is_an_input_error(
    pair: tuple[Any, TextEncoder], given: Any, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        pair[1](given)


def test_text_that_is_not_unicode_is_an_input_error(pair: tuple[Any, TextEncoder]) -> None:
    with pytest.raises(InputError, match="is not Unicode"):
        pair[1](["half a surrogate: \ud800"])


def test_threads_may_share_an_encoder(pair: tuple[Any, TextEncoder], texts: list[str]) -> None:
    _, ours = pair
    with ThreadPoolExecutor(8) as pool:
        shapes = pool.map(
            lambda n: ours(texts * 5, max_length=n)["input_ids"].shape[1], [5, 9, 13, 6] * 25
        )
        assert list(shapes) == [5, 9, 13, 6] * 25


def test_a_length_without_room_is_an_input_error(pair: tuple[Any, TextEncoder]) -> None:
    with pytest.raises(InputError, match="special tokens"):
        pair[1](["hello"], max_length=2)
    with pytest.raises(InputError, match="max_length is 0"):
        pair[1](["hello"], max_length=0)


def test_a_damaged_or_absent_tokenizer_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no tokenizer\.json"):
        encoder_for(tmp_path, "bert")(["x"])
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match="is not a tokenizer"):
        encoder_for(tmp_path, "bert")(["x"])


def test_an_input_no_text_becomes_is_a_bundle_error(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("pixel_values", "float32", ("batch", 3, 4, 4)),), ())
    with pytest.raises(BundleError, match="pixel_values"):
        TextEncoder(tmp_path, {}, signature)


@pytest.mark.parametrize(
    "settings", [[], {"max_length": "64"}, {"max_length": 0}, {"pad_token_id": 1 << 70}]
)
def test_settings_of_another_kind_are_a_bundle_error(settings: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="the text preprocessing is malformed"):
        TextEncoder(tmp_path, settings, Signature((), ()))


@pytest.mark.parametrize("content", ["[]", "{"])
def test_special_tokens_in_a_damaged_file_are_a_bundle_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(BundleError, match="is not a JSON object"):
        TextEncoder(tmp_path, {}, Signature((), ())).token("mask_token")
