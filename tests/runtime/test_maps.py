"""Maps change their size as torch's do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgetfm.runtime.maps import How, resized

SIDES = st.integers(1, 40)


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@given(SIDES, SIDES, SIDES, SIDES)
def test_maps_are_resized_as_torch_does(
    how: How, height: int, width: int, new_height: int, new_width: int
) -> None:
    values = np.random.default_rng(height).standard_normal((height, width)).astype(np.float32)
    size = (new_height, new_width)
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=size, mode=how, align_corners=False
    )
    np.testing.assert_allclose(resized(values, size, how), wanted[0, 0].numpy(), atol=2e-5)
