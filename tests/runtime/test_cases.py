"""The cases a model is proven on have the shapes they claim, and are the same every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.errors import DataError, InputError
from edgetfm.runtime.cases import feeds_of_shape, long_prompt, parity_cases
from edgetfm.runtime.images import ImageReader
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.signature import Feeds, Signature, TensorSpec
from edgetfm.task import Task
from edgetfm.tasks import TASKS


def prepared(made: Any) -> tuple[Preprocessor, Signature, Task]:
    bundle = open_bundle(made.bundle)
    manifest = bundle.manifest
    signature = manifest.components["model"].signature
    preprocessor = Preprocessor.from_folder(bundle.root, manifest.preprocessing, signature)
    return preprocessor, signature, TASKS[manifest.task]


def shapes(cases: list[Feeds]) -> set[tuple[int, ...]]:
    return {next(iter(feeds.values())).shape for feeds in cases}


TEXT_MODELS = [
    ("bert", "text-classification"),
    ("bert", "question-answering"),
    ("distilbert", "token-classification"),
]


@pytest.mark.parametrize(("model_type", "task"), TEXT_MODELS)
def test_text_cases_have_every_shape_and_ragged_rows(
    tiny_bundle: Callable[..., Any], texts: list[str], model_type: str, task: str
) -> None:
    preprocessor, signature, kind = prepared(tiny_bundle(model_type, task))
    cases = parity_cases(preprocessor, signature, kind, texts)
    assert {(1, 1), (1, 64), (3, 17), (8, 64)} <= shapes(cases)  # 64 is the model's longest
    for feeds in cases:
        mask = feeds["attention_mask"]
        lengths = mask.sum(1)
        assert lengths[0] == mask.shape[1]
        assert (np.diff(lengths) < 0).all()
        assert (np.sort(mask)[:, ::-1] == mask).all(), "padding is on the right"
        assert (feeds["input_ids"][mask == 0] == preprocessor.text_encoder.pad_token_id).all()
        for row, length in zip(feeds["input_ids"], lengths, strict=True):
            assert length < 8 or len(set(row[:length].tolist())) > 4, "real text, not one token"
    again = parity_cases(preprocessor, signature, kind, texts)
    assert all(
        np.array_equal(a[name], b[name]) for a, b in zip(cases, again, strict=True) for name in a
    )


def test_long_models_are_proven_at_128_tokens(masked_lm_bundle: Any, texts: list[str]) -> None:
    preprocessor, signature, kind = prepared(masked_lm_bundle)
    cases = parity_cases(preprocessor, signature, kind, texts)
    assert {(1, 1), (1, 128), (3, 17), (8, 64)} <= shapes(cases)
    mask = preprocessor.text_encoder.tokenizer.token_to_id("[MASK]")
    masked = [(f["input_ids"] == mask).sum() / f["attention_mask"].sum() for f in cases[1:]]
    assert all(0.05 < share < 0.3 for share in masked), "fill-mask is asked with masks"


@pytest.mark.parametrize(
    ("window", "tokens"), [(0, 256), (6, 256), (224, 256), (512, 544), (992, 1024), (4096, 256)]
)
def test_a_long_prompt_goes_beyond_the_window_unless_that_is_too_long(
    window: int, tokens: int
) -> None:
    assert long_prompt(window) == tokens


def test_a_long_text_is_asked_alone_and_no_longer_than_the_model_takes(
    masked_lm_bundle: Any, tiny_bundle: Callable[..., Any], texts: list[str]
) -> None:
    cases = parity_cases(*prepared(masked_lm_bundle), texts, long=300)
    assert shapes(cases) == {(1, 1), (2, 5), (3, 17), (8, 64), (1, 128), (1, 300)}
    short = parity_cases(*prepared(tiny_bundle("bert", "text-classification")), texts, long=300)
    assert max(shapes(short)) == (8, 64)  # 64 is the model's longest
    assert max(length for _, length in shapes(short)) == 64


def test_questions_have_two_kinds_of_tokens(
    tiny_bundle: Callable[..., Any], texts: list[str]
) -> None:
    preprocessor, signature, kind = prepared(tiny_bundle("bert", "question-answering"))
    longest = parity_cases(preprocessor, signature, kind, texts)[-1]
    assert set(longest["token_type_ids"][0].tolist()) == {0, 1}


def test_image_cases_have_every_batch_size(
    tiny_bundle: Callable[..., Any], pictures: list[Path]
) -> None:
    preprocessor, signature, kind = prepared(tiny_bundle("vit", "image-classification"))
    cases = parity_cases(preprocessor, signature, kind, pictures)
    assert [f["pixel_values"].shape for f in cases] == [(n, 3, 32, 32) for n in (1, 2, 3, 8)]


def test_pictures_of_free_sizes_come_in_several_shapes(pictures: list[Path]) -> None:
    pixels = TensorSpec("pixel_values", "float32", ("batch", 3, "height", "width"))
    signature = Signature((pixels,), ())
    settings = {"resize": {"mode": "shortest_edge", "edge": 400, "longest": 666}}
    ready = Preprocessor(image=ImageReader.from_settings(settings, signature))
    cases = parity_cases(ready, signature, TASKS["object-detection"], pictures)
    found = [f["pixel_values"].shape for f in cases]
    assert {shape[0] for shape in found} >= {1, 2, 3}
    assert len({shape[2:] for shape in found}) == len(found)
    assert {shape[2] < shape[3] for shape in found} == {True, False}
    assert max(max(shape[2:]) for shape in found) > 500, "one is as large as the model is used"


def test_texts_and_pictures_have_batches_of_their_own(
    tiny_bundle: Callable[..., Any], texts: list[str], pictures: list[Path]
) -> None:
    words, spoken, _ = prepared(tiny_bundle("bert", "text-classification"))
    seen, shown, _ = prepared(tiny_bundle("vit", "image-classification"))
    both = [
        TensorSpec(t.name, t.dtype, (f"{sense}_batch", *t.shape[1:]))
        for sense, signature in (("text", spoken), ("image", shown))
        for t in signature.inputs
    ]
    ready = Preprocessor(words.text, seen.image)
    items = [(text, pictures[i % 2]) for i, text in enumerate(texts)]
    task = TASKS["zero-shot-image-classification"]
    signature = Signature(tuple(both), ())
    cases = parity_cases(ready, signature, task, items)
    sizes = {(len(f["input_ids"]), len(f["pixel_values"])) for f in cases}
    assert any(a != b for a, b in sizes)
    assert {a for a, _ in sizes} >= {1, 3, 8}
    assert {b for _, b in sizes} >= {1, 3, 8}
    made = ready.inputs(task.senses, items[:3])
    assert {name: len(array) for name, array in made.items()} == {t.name: 3 for t in both}
    asked = feeds_of_shape(ready, signature, task, 2, 9)
    assert (asked["input_ids"].shape, len(asked["pixel_values"])) == ((2, 9), 2)


def test_no_items_no_cases(tiny_bundle: Callable[..., Any]) -> None:
    ready = prepared(tiny_bundle("bert", "text-classification"))
    with pytest.raises(DataError, match="no items"):
        parity_cases(*ready, [])
    with pytest.raises(DataError, match="all texts are empty"):
        parity_cases(*ready, ["", "  "])


@pytest.mark.parametrize(("batch", "sequence"), [(1, 1), (2, 7), (3, 64)])
def test_feeds_of_a_shape_have_it_without_padding(
    tiny_bundle: Callable[..., Any], batch: int, sequence: int
) -> None:
    feeds = feeds_of_shape(*prepared(tiny_bundle("bert", "text-classification")), batch, sequence)
    assert all(array.shape == (batch, sequence) for array in feeds.values())
    assert feeds["attention_mask"].all()


def test_feeds_longer_than_the_model_are_an_input_error(tiny_bundle: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="sequence is 65, the model takes 64"):
        feeds_of_shape(*prepared(tiny_bundle("bert", "text-classification")), 1, 65)


def test_a_full_batch_is_shorter_where_a_decoder_has_a_large_vocabulary(
    masked_lm_bundle: Any, texts: list[str]
) -> None:
    preprocessor, signature, _ = prepared(masked_lm_bundle)
    kind = TASKS["text-generation"]
    (logits,) = signature.outputs

    def asked(vocabulary: int) -> list[Feeds]:
        wide = replace(logits, shape=(*logits.shape[:-1], vocabulary))
        return parity_cases(preprocessor, replace(signature, outputs=(wide,)), kind, texts)

    assert shapes(asked(1000)) == {(1, 1), (2, 5), (1, 128), (3, 17), (8, 64)}
    found = asked(49_152)
    assert shapes(found) == {(1, 1), (2, 5), (1, 128), (3, 17), (8, 16)}
    (full,) = [feeds for feeds in found if feeds["input_ids"].shape == (8, 16)]
    assert len(set(full["attention_mask"].sum(1).tolist())) == 8, "eight rows of eight lengths"
