from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.quantize.masks import find_masks


def attention(builder: Any, mask: str) -> ir.Model:
    """Scores of x with itself under a mask; `by` names how it is made."""
    given = {"mask_bias": ["n", 1, "s"]} if mask == "given" else {}
    b = builder(x=["n", "s", 8], attention_mask=["n", "s"], **given)
    real = b("Unsqueeze", "attention_mask", b.constant(np.array([1])))
    one, low = b.constant(np.float32(1)), b.constant(np.float32(-1e9))
    scores = b("MatMul", "x", b("Transpose", "x", perm=[0, 2, 1]), name="scores")
    bias = b.constant(np.full((1, 4, 4), -100, "f4"))  # a bias as large as biases get
    if mask == "added":
        made = b("Mul", b("Sub", one, b("Cast", real, to=1), name="hides"), low, name="mask")
        scores = b("Add", scores, made, name="masked")
    elif mask == "chosen":
        made = b("Where", b("Cast", real, to=9), b.constant(np.float32(0)), low, name="mask")
        scores = b("Add", scores, made, name="masked")
    elif mask == "put in":
        scores = b("Where", b("Cast", real, to=9), scores, low, name="masked")
    elif mask == "given":
        scores = b("Add", scores, "mask_bias", name="masked")
    else:
        scores = b("Add", scores, bias, name="masked")
    weights = b("Softmax", scores, axis=-1, name="weights")
    b("MatMul", weights, "x", name="y")
    return b.model(y=["n", "s", 8])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("mask", "sentinels"),
    [
        ("added", {"mask:0", "masked:0"}),
        ("chosen", {"mask:0", "masked:0"}),
        ("put in", {"masked:0"}),
        ("given", {"mask_bias", "masked:0"}),
        ("none", set()),
    ],
)
def test_sentinels_are_found_however_they_get_in(
    builder: Any, mask: str, sentinels: set[str]
) -> None:
    found = find_masks(attention(builder, mask))
    assert found.sentinels == sentinels
    assert found.scores == {"masked:0"}
    assert not found.arithmetic & {"scores:0", "masked:0", "weights:0", "y:0"}


def test_what_depends_on_masks_alone_is_arithmetic(builder: Any) -> None:
    found = find_masks(attention(builder, "added"))
    assert {"hides:0", "mask:0"} <= found.arithmetic
    assert find_masks(attention(builder, "given")).arithmetic == {"mask_bias"}
