"""A segmenter takes pictures of any size and tells each patch's pixels in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from edgetfm.errors import SourceError
from edgetfm.models.segmenter import FAMILY, SegmenterConfig

TASK = "image-segmentation"
CONFIG = SegmenterConfig(patch_size=8, width=32, layers=1, heads=4, inner=48, detail=4, labels=3)
STEMS = pytest.mark.parametrize("stem", [0, 1, 3])


@STEMS
@pytest.mark.parametrize(("height", "width"), [(8, 8), (47, 33)])
def test_pictures_of_any_size_have_so_many_classes_a_patch(
    stem: int, height: int, width: int
) -> None:
    module = FAMILY.build(replace(CONFIG, stem=stem), TASK).eval()
    logits = module(torch.randn(2, 3, height, width))["logits"]
    assert logits.shape == (2, 3, height // 8 * 4, width // 8 * 4)


@pytest.mark.parametrize("detail", [4, 8])
def test_a_stem_tells_of_each_place_what_lies_there(detail: int) -> None:
    """Without layers a mark changes what is told of where it is, and of a few pixels around."""
    torch.manual_seed(0)
    module = FAMILY.build(replace(CONFIG, stem=1, detail=detail), TASK).eval()
    module.layers = torch.nn.ModuleList()
    plain = torch.zeros(1, 3, 48, 48)
    marked = plain.clone()
    marked[:, :, 8:16, 32:40] = 1.0
    apart = (module(marked)["logits"] - module(plain)["logits"]).abs().amax((0, 1))
    rows, columns = torch.nonzero(apart > 0).t() * 8 // detail
    assert 0 <= rows.min() <= 8
    assert 15 <= rows.max() < 32
    assert 16 <= columns.min() <= 32
    assert columns.max() >= 38


def test_what_a_patch_tells_lies_where_the_patch_does() -> None:
    """Of a patch with a mark, the logits of its own place change most when nothing is mixed."""
    torch.manual_seed(0)
    module = FAMILY.build(CONFIG, TASK).eval()
    module.layers = torch.nn.ModuleList()  # no patch sees another
    plain = torch.zeros(1, 3, 32, 48)
    marked = plain.clone()
    marked[:, :, 8:16, 32:40] = 1.0
    apart = (module(marked)["logits"] - module(plain)["logits"]).abs().amax((0, 1))
    inside = torch.zeros(16, 24, dtype=torch.bool)
    inside[4:8, 16:20] = True
    assert (apart[~inside] == 0).all()
    assert (apart[inside] > 0).all()


def test_a_size_in_the_config_is_the_graphs_own() -> None:
    config = replace(CONFIG, image_size=(16, 24))
    (taken,), (given,) = FAMILY.inputs(config, TASK), FAMILY.outputs(config, TASK)
    assert taken.shape == ("batch", 3, 16, 24)
    assert given.shape == ("batch", 3, 8, 12)
    assert FAMILY.inputs(CONFIG, TASK)[0].shape == ("batch", 3, "height", "width")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"norm": "batch"}, "norm is 'batch', known are layer, rms"),
        ({"width": 36, "heads": 8}, r"heads \(8\) does not divide width"),
        ({"width": 34, "heads": 2}, "width is 34, expected multiples of 4"),
        ({"detail": 3}, r"detail \(3\) does not divide patch_size \(8\)"),
        ({"stem": 4}, r"halved \(16\) does not divide patch_size \(8\)"),
        ({"stem": 1, "detail": 2}, r"side \(4\) does not divide detail \(2\)"),
        ({"stem": 10_000_000}, "does not divide patch_size"),
        ({"stem": 1, "patch_size": 1, "detail": 1}, r"side \(0\) does not divide detail \(1\)"),
        ({"image_size": (20, 16)}, r"image_size is \(20, 16\), expected multiples of 8"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        replace(CONFIG, **changed)
