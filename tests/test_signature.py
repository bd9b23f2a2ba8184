"""A signature turns feeds into the arrays its graph takes, or says everything that is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.errors import InputError
from edgetfm.signature import DTYPES, Signature, TensorSpec

TEXT = Signature(
    inputs=(
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        TensorSpec("attention_mask", "int64", ("batch", "sequence")),
    ),
    outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
)


def one(dtype: str, shape: tuple[int | str, ...] = ("n",)) -> Signature:
    return Signature((TensorSpec("x", dtype, shape),), ())


def test_lists_and_other_integers_are_taken() -> None:
    feeds = TEXT.check(
        {"input_ids": [[1, 2]], "attention_mask": np.array([[True, False]])},
    )
    assert {a.dtype for a in feeds.values()} == {np.dtype(np.int64)}
    assert feeds["attention_mask"].tolist() == [[1, 0]]


def test_every_problem_is_listed_at_once() -> None:
    with pytest.raises(InputError) as raised:
        TEXT.check({"input_ids": [[1.5]], "mask": [[1]]})
    for said in ("input_ids is float64, expected int64", "missing input attention_mask", "'mask'"):
        assert said in str(raised.value)


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"input_ids": [[1, 2]], "attention_mask": [[1, 1, 1]]}, "sequence=3"),
        ({"input_ids": [1, 2], "attention_mask": [[1, 1]]}, "expected input_ids"),
        ({"input_ids": [[1, 2], [3]], "attention_mask": [[1, 1]]}, "ragged"),
        ({"input_ids": [["a"]], "attention_mask": [[1]]}, "expected int64"),
        ({"input_ids": [[None]], "attention_mask": [[1]]}, "expected int64"),
        ({"input_ids": None, "attention_mask": [[1]]}, "expected int64"),
        ({"input_ids": [[1 + 2j]], "attention_mask": [[1]]}, "expected int64"),
        ({"input_ids": np.zeros((0, 3), int), "attention_mask": np.zeros((0, 3), int)}, "empty"),
        ({"input_ids": np.zeros((3, 0), int), "attention_mask": np.zeros((3, 0), int)}, "empty"),
        ({"input_ids": [[2**64 - 1]], "attention_mask": [[1]]}, "cannot hold"),
    ],
)
def test_bad_feeds_are_refused(feeds: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TEXT.check(feeds)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int32", 2**40), ("uint8", -1), ("int8", 128), ("float16", 1e6), ("float32", 1e300)],
)
def test_a_number_that_does_not_fit_is_refused(dtype: str, value: float) -> None:
    with pytest.raises(InputError, match="cannot hold"):
        one(dtype).check({"x": np.array([value])})


def test_infinity_and_nan_pass_through_a_cast() -> None:
    values = one("float32").check({"x": np.array([np.inf, -np.inf, np.nan])})["x"]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [np.inf, -np.inf, np.nan])


def test_a_scalar_stays_a_scalar_and_arrays_come_out_contiguous() -> None:
    assert one("float32", ()).check({"x": 3.0})["x"].shape == ()
    turned = one("float32", (2, 3)).check({"x": np.ones((3, 2), np.float32).T})["x"]
    assert turned.flags.c_contiguous


def test_a_fixed_axis_is_held_to_its_size() -> None:
    with pytest.raises(InputError, match=r"shape \(1, 4\), expected x: float32\[batch, 3\]"):
        one("float32", ("batch", 3)).check({"x": np.zeros((1, 4), np.float32)})


def test_axes_are_the_free_ones_in_order() -> None:
    assert TEXT.axes == ("batch", "sequence")


specs = st.builds(
    TensorSpec,
    name=st.text(min_size=1, max_size=8),
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(
        st.one_of(st.integers(0, 2**40), st.text(min_size=1, max_size=4)), max_size=4
    ).map(tuple),
)
signatures = st.builds(
    Signature,
    *(st.lists(specs, max_size=3, unique_by=lambda t: t.name).map(tuple) for _ in range(2)),
)


@given(signatures)
def test_json_is_there_and_back(signature: Signature) -> None:
    assert Signature.from_json(signature.to_json()) == signature


@pytest.mark.parametrize(
    "tensor",
    [
        {"name": "x", "dtype": None, "shape": []},
        {"name": "x", "dtype": "object", "shape": []},
        {"name": "x", "dtype": ["float32"], "shape": []},
        {"name": "x", "dtype": "f4,f4", "shape": []},
        {"name": "x", "dtype": "float32", "shape": "ab"},
        {"name": "x", "dtype": "float32", "shape": [-1]},
        {"name": "x", "dtype": "float32", "shape": [True]},
        {"name": "x", "dtype": "float32", "shape": [1.5]},
        {"name": "x", "dtype": "float32", "shape": [""]},
        {"name": "", "dtype": "float32", "shape": []},
        {"name": 3, "dtype": "float32", "shape": []},
    ],
)
def test_a_tensor_that_is_none_is_refused(tensor: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"x|name"):
        TensorSpec.from_json(tensor)


def test_two_inputs_of_one_name_are_refused() -> None:
    tensor = TensorSpec("x", "float32", ()).to_json()
    with pytest.raises(ValueError, match="one name"):
        Signature.from_json({"inputs": [tensor, tensor], "outputs": []})
