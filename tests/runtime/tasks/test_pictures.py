"""What is seen in pictures is what transformers' pipelines see, in their form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetfm import pipeline
from edgetfm.errors import InputError
from tests.conftest import Exported
from tests.runtime.tasks.conftest import Tiny

TOLERANCE = 1e-4


def theirs(task: str, made: Exported) -> Any:
    import transformers

    processor = transformers.AutoImageProcessor.from_pretrained(made.source, backend="pil")
    words = {}
    if task.startswith("zero-shot"):
        words = {"tokenizer": transformers.AutoTokenizer.from_pretrained(made.source)}
    return transformers.pipeline(
        task, model=str(made.source), image_processor=processor, device="cpu", **words
    )


@pytest.fixture
def small(pictures: list[Path], tmp_path: Path) -> list[Path]:
    """A picture that lies and one that stands."""
    paths = []
    for path, size in zip(pictures, ((96, 64), (60, 100)), strict=True):
        with Image.open(path) as image:
            image.resize(size).save(tmp_path / f"{path.stem}.png")
        paths.append(tmp_path / f"{path.stem}.png")
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("row", ["detr", "conditional_detr"])
def test_objects_are_where_transformers_finds_them(row: str, tiny: Tiny, small: list[Path]) -> None:
    made = tiny(row)
    ours, wanted = pipeline(made.bundle), theirs("object-detection", made)
    threshold = 0.2
    found = ours([str(p) for p in small], threshold=threshold, batch_size=2)
    assert any(found), "nothing was found, so nothing was compared"
    for got, path in zip(found, small, strict=True):
        asked = wanted(str(path), threshold=threshold)
        assert [(o["label"], o["box"]) for o in got] == [(o["label"], o["box"]) for o in asked]
        np.testing.assert_allclose(
            [o["score"] for o in got], [o["score"] for o in asked], atol=TOLERANCE
        )
    assert found[0] == ours(str(small[0]), threshold=threshold), "its neighbours do not matter"


def test_pixels_have_the_classes_that_transformers_gives_them(
    tiny: Tiny, small: list[Path]
) -> None:
    made = tiny("segformer-pixels")
    ours, wanted = pipeline(made.bundle), theirs("image-segmentation", made)
    for path in small:
        got, asked = ours(str(path)), wanted(str(path))
        assert [(c["label"], c["score"]) for c in got] == [(c["label"], None) for c in asked]
        for one, other in zip(got, asked, strict=True):
            mask = np.asarray(other["mask"])
            assert one["mask"].shape == mask.shape
            assert (one["mask"] == mask).mean() > 0.999  # ties between two classes
        assert sum((c["mask"] > 0).astype(int) for c in got).min() == 1


@pytest.mark.slow
def test_depths_are_those_of_transformers(tiny: Tiny, small: list[Path]) -> None:
    made = tiny("dpt")
    ours, wanted = pipeline(made.bundle), theirs("depth-estimation", made)
    for path in small:
        got, asked = ours(str(path)), wanted(str(path))
        depth = asked["predicted_depth"].numpy()
        assert got["predicted_depth"].shape == depth.shape
        np.testing.assert_allclose(got["predicted_depth"], depth, atol=TOLERANCE, rtol=TOLERANCE)
        shades = np.asarray(asked["depth"]).astype(int)
        assert np.abs(got["depth"].astype(int) - shades).max() <= 1


@pytest.mark.parametrize("row", ["clip", pytest.param("siglip", marks=pytest.mark.slow)])
def test_labels_fit_as_transformers_says(row: str, tiny: Tiny, small: list[Path]) -> None:
    made = tiny(row)
    ours, wanted = pipeline(made.bundle), theirs("zero-shot-image-classification", made)
    labels = ["a captain", "the river in spring", "water"]
    template = "This is {}."
    found = ours([str(p) for p in small], candidate_labels=labels, hypothesis_template=template)
    for got, path in zip(found, small, strict=True):
        asked = wanted(str(path), candidate_labels=labels, hypothesis_template=template)
        assert [o["label"] for o in got] == [o["label"] for o in asked]
        np.testing.assert_allclose(
            [o["score"] for o in got], [o["score"] for o in asked], atol=TOLERANCE
        )
    with pytest.raises(InputError, match="candidate_labels is empty"):
        ours(str(small[0]))
    with pytest.raises(InputError, match=r"has no .* for the label"):
        ours(str(small[0]), candidate_labels=labels, hypothesis_template="a photo")
