"""Sizes of pictures are those of transformers, to the pixel, for pictures of any size."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.models.dpt.image_processing_pil_dpt import get_resize_output_image_size
from transformers.models.yolos.image_processing_pil_yolos import get_size_with_aspect_ratio_yolos

from edgetfm.runtime.resizing import Resize

SIDES = st.integers(1, 5000)
EDGES = st.integers(1, 1500)


@given(SIDES, SIDES, EDGES, EDGES)
def test_the_shorter_edge_gives_way_to_the_longest(
    height: int, width: int, edge: int, longest: int
) -> None:
    rule = Resize("shortest_edge", edge=edge, longest=longest)
    assert rule(height, width) == get_size_with_aspect_ratio((height, width), edge, longest)


@given(SIDES, SIDES, EDGES)
def test_the_shorter_edge_alone_decides(height: int, width: int, edge: int) -> None:
    rule = Resize("shortest_edge", edge=edge)
    assert rule(height, width) == get_size_with_aspect_ratio((height, width), edge)


@given(SIDES, SIDES, EDGES, EDGES)
def test_sides_are_cut_to_multiples(height: int, width: int, edge: int, longest: int) -> None:
    rule = Resize("shortest_edge", edge=edge, longest=longest, multiple=16)
    wanted = get_size_with_aspect_ratio_yolos((height, width), edge, longest)
    assert rule(height, width) == wanted


@given(SIDES, SIDES, EDGES, EDGES, st.integers(1, 32))
def test_the_side_that_changes_less_fits(
    height: int, width: int, wanted: int, other: int, multiple: int
) -> None:
    rule = Resize("fit", size=(wanted, other), multiple=multiple)
    picture = np.broadcast_to(np.zeros((), np.uint8), (3, height, width))
    theirs = get_resize_output_image_size(picture, (wanted, other), True, multiple)
    assert rule(height, width) == (theirs.height, theirs.width)
