"""A decoder's graph is as other people's programs expect it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgetfm.export import streamed


def test_only_the_length_of_an_empty_cache_is_free(
    tiny_decoder_bundle: Callable[..., Any],
) -> None:
    """Transformers.js makes the first cache: an axis it does not know by name is of size 0."""
    file = tiny_decoder_bundle("llama").bundle / "onnx" / "model.onnx"
    graph = onnx.load(file, load_external_data=False).graph
    caches = [v for v in graph.input if v.name.startswith("past_key_values.")]
    assert len(caches) == 4
    for value in caches:
        named = [d.dim_param for d in value.type.tensor_type.shape.dim if d.dim_param]
        assert named == ["batch_size", "past_sequence"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_table_becomes_float32_some_rows_at_a_time(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(1000, 300).to(dtype)
    whole = streamed.in_float32(weight)
    monkeypatch.setattr(streamed, "SLICE", 7 * 300 + 5)
    in_parts = streamed.in_float32(weight)
    np.testing.assert_array_equal(in_parts, whole)
    np.testing.assert_array_equal(whole, weight.float().numpy())
    assert isinstance(in_parts, np.memmap) == (dtype != torch.float32)  # which is there already
