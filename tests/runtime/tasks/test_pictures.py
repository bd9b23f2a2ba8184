"""What is seen in pictures is what transformers' pipelines see, in their form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetfm import pipeline
from edgetfm.errors import InputError
from tests.plain import Exported
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


def test_labels_are_read_once_and_fit_as_well(tiny: Tiny, small: list[Path]) -> None:
    ours = pipeline(tiny("clip").bundle)
    items, labels = [str(p) for p in small], ["a captain", "the river in spring"]
    together = ours(items, candidate_labels=labels, batch_size=2)
    for one, other in zip(ours(items, candidate_labels=labels), together, strict=True):
        assert [o["label"] for o in one] == [o["label"] for o in other]
        np.testing.assert_allclose(
            [o["score"] for o in one], [o["score"] for o in other], atol=TOLERANCE
        )


def test_what_fits_best_is_found_among_pictures_and_texts(
    tiny: Tiny, small: list[Path], tmp_path: Path
) -> None:
    ours = pipeline(tiny("clip").bundle)
    wanted, texts = "the river in spring", ["water", "a captain of the boat", "the river in spring"]
    prepare = ours.preprocessor
    feeds = {**prepare.texts(texts), **prepare.images([str(p) for p in small])}
    outputs = ours.model.run(feeds)
    cosines = outputs["image_embeds"] @ outputs["text_embeds"].T
    found = ours(wanted, among=tmp_path, top_k=1, batch_size=2)
    assert found == ours(wanted, among=sorted(small), top_k=None)[:1]
    best = int(cosines[:, 2].argmax())
    assert Path(found[0]["image"]) == small[best]
    assert found[0]["score"] == pytest.approx(float(cosines[best, 2]), abs=TOLERANCE)
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n\n")
    for path, row in zip(small, cosines, strict=True):
        told = ours(str(path), among=tmp_path / "texts.txt")
        assert [t["text"] for t in told] == [texts[i] for i in np.argsort(-row, kind="stable")]
        np.testing.assert_allclose([t["score"] for t in told], -np.sort(-row), atol=TOLERANCE)


def test_odd_pictures_are_matched_and_broken_ones_named(tiny: Tiny, tmp_path: Path) -> None:
    ours, labels = pipeline(tiny("clip").bundle), ["water", "a boat"]
    photo = Image.effect_noise((40, 30), 90)
    same = [photo, photo.convert("RGB"), photo.convert("RGBA"), photo.convert("P")]
    found = [[o["score"] for o in a] for a in ours(same, candidate_labels=labels, batch_size=4)]
    np.testing.assert_allclose(found, [found[0]] * 4, atol=TOLERANCE)
    odd = [Image.new("L", (1, 1)), Image.new("CMYK", (3, 50)), Image.new("1", (900, 2))]
    for answer in ours(odd, candidate_labels=labels):
        assert sum(o["score"] for o in answer) == pytest.approx(1)
    photo.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    with pytest.raises(InputError, match=r"cut\.png"):
        ours([photo, tmp_path / "cut.png"], candidate_labels=labels)
    with pytest.raises(InputError, match=r"cut\.png"):
        ours("a boat", among=tmp_path)


def test_what_cannot_be_matched_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    ours, photo = pipeline(tiny("clip").bundle), Image.new("RGB", (8, 8))
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n \n")
    for item, given, said in (
        (photo, {"candidate_labels": []}, "candidate_labels is empty"),
        (photo, {"candidate_labels": ["a", " "]}, "candidate_labels has no text at 1"),
        (photo, {"candidate_labels": ["a"], "top_k": 0}, "top_k"),
        (photo, {"candidate_labels": ["a"], "among": tmp_path}, "not both"),
        (photo, {"among": tmp_path / "blank.txt"}, "holds no texts"),
        (photo, {"among": tmp_path / "none"}, "neither a folder of pictures nor a file of texts"),
        (photo, {"among": []}, "among is empty"),
        ("a boat", {"among": tmp_path / "empty"}, "holds no pictures"),
        (" ", {"among": [photo]}, "give a text that is not empty"),
        (photo, {"among": [photo]}, "pictures are looked for by texts"),
    ):
        with pytest.raises(InputError, match=said):
            ours(item, **given)
