"""Properties: an answer does not depend on its batch neighbours, its padding or its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetfm import load
from edgetfm.errors import InputError
from edgetfm.runtime import Model, pipeline
from edgetfm.signature import Signature, TensorSpec

TOLERANCE = 1e-5

words = st.sampled_from(["the", "boat", "captain", "ünïcode", "1921", ",", "mill's", "?", "[]"])
sentences = st.lists(words, max_size=40).map(" ".join)
quick = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def model(tiny_bundle: Callable[..., Any]) -> Model:
    return pipeline(tiny_bundle("bert", "text-classification").bundle, threads=1).model


@pytest.fixture(scope="module")
def embed(tiny_bundle: Callable[..., Any]) -> Any:
    return pipeline(tiny_bundle("mpnet", "feature-extraction").bundle, threads=1)


@quick
@given(texts=st.lists(sentences, min_size=1, max_size=6), size=st.integers(1, 6))
def test_batching_does_not_change_an_answer(embed: Any, texts: list[str], size: int) -> None:
    together = embed(texts, batch_size=size, max_length=64)
    alone = np.array([embed(text, max_length=64) for text in texts])
    np.testing.assert_allclose(together, alone, atol=TOLERANCE, rtol=0)


@quick
@given(
    rows=st.lists(st.lists(st.integers(5, 103), min_size=1, max_size=30), min_size=1, max_size=4),
    padding=st.integers(0, 20),
    junk=st.integers(0, 103),
)
def test_padding_does_not_change_an_answer(
    model: Model, rows: list[list[int]], padding: int, junk: int
) -> None:
    width = max(map(len, rows)) + padding
    feeds = {
        "input_ids": [row + [junk] * (width - len(row)) for row in rows],
        "attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in rows],
        "token_type_ids": [[0] * width for _ in rows],
    }
    padded = model.run(feeds)["logits"]
    for i, row in enumerate(rows):
        alone = model.run(
            input_ids=[row], attention_mask=[[1] * len(row)], token_type_ids=[[0] * len(row)]
        )
        np.testing.assert_allclose(padded[i], alone["logits"][0], atol=TOLERANCE, rtol=0)


def test_threads_do_not_change_an_answer(tiny_bundle: Callable[..., Any], texts: list[str]) -> None:
    bundle = tiny_bundle("bert", "text-classification").bundle
    one, two = (pipeline(bundle, threads=n)(texts, top_k=None) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert [x["label"] for x in a] == [x["label"] for x in b]
        assert [x["score"] for x in a] == pytest.approx([x["score"] for x in b], abs=TOLERANCE)


# --- what a signature lets through --------------------------------------------------------------

SIGNATURE = Signature(
    (
        TensorSpec("ids", "int64", ("batch", "sequence")),
        TensorSpec("mask", "int64", ("batch", "sequence")),
        TensorSpec("pixels", "float32", ("batch", 3)),
    ),
    (),
)
shapes = st.lists(st.integers(0, 4), min_size=0, max_size=3).map(tuple)
dtypes = st.sampled_from(["int64", "int32", "uint8", "float32", "float64", "bool", "complex64"])


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(shapes, shapes, shapes),
    dtype=st.tuples(dtypes, dtypes, dtypes),
    left_out=st.sets(st.sampled_from(["ids", "mask", "pixels"])),
)
def test_a_signature_lets_through_what_fits_and_nothing_else(
    shape: tuple[Any, ...], dtype: tuple[str, ...], left_out: set[str]
) -> None:
    names = [t.name for t in SIGNATURE.inputs]
    feeds = {
        name: np.zeros(s, d)
        for name, s, d in zip(names, shape, dtype, strict=True)
        if name not in left_out
    }
    kinds = [np.dtype(d).kind for d in dtype]
    fits = (
        not left_out
        and [len(s) for s in shape] == [2, 2, 2]
        and shape[0] == shape[1]
        and shape[2] == (shape[0][0], 3)
        and 0 not in shape[0]
        and all(k in "iub" for k in kinds[:2])
        and kinds[2] in "fiu"
    )
    if not fits:
        with pytest.raises(InputError):
            SIGNATURE.check(feeds)
        return
    checked = SIGNATURE.check(feeds)
    for spec in SIGNATURE.inputs:
        assert checked[spec.name].dtype == spec.dtype
        assert checked[spec.name].flags.c_contiguous
        np.testing.assert_array_equal(checked[spec.name], feeds[spec.name])


def test_load_and_pipeline_share_one_model(tiny_bundle: Callable[..., Any]) -> None:
    bundle = tiny_bundle("bert", "text-classification").bundle
    pipe = pipeline(bundle)
    feeds = pipe.preprocessor.texts(["the boat"])
    np.testing.assert_array_equal(
        pipe.model.run(feeds)["logits"], load(bundle).run(feeds)["logits"]
    )
