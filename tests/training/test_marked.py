"""Pictures with marks: the same from every form of file, mirrored with their marks, and learned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgetfm.errors import DataError
from edgetfm.samples.scenes import CLASSES, write_scenes
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.marked import Marked, MarkedPictures, load_marked
from edgetfm.training.data.parts import PARTS, Shares
from edgetfm.training.objectives import IGNORED, objective_of
from edgetfm.training.objectives._marked import mirrored
from edgetfm.training.set_loss import corners, generalized_iou, match, set_loss

SHARES = Shares(0.3, 0.3)
SIZE = (48, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("scenes") / "made"
    write_scenes(made, 24, seed=3, size=SIZE)
    return made


def all_of(pictures: MarkedPictures) -> Iterator[Marked]:
    for part in PARTS:
        yield from pictures.parts[part]


def test_every_form_holds_the_same(folder: Path) -> None:
    forms = [
        load_marked("scenes:24", SIZE, 3, SHARES),
        load_marked(str(folder), None, 0, SHARES),
        load_marked(str(folder / "annotations.json"), None, 0, SHARES),
    ]
    assert {form.labels for form in forms} == {CLASSES}
    assert {form.size for form in forms} == {SIZE}
    for one, two, coco in zip(*map(all_of, forms), strict=True):
        np.testing.assert_array_equal(one.picture, two.picture)
        np.testing.assert_array_equal(one.picture, coco.picture)
        np.testing.assert_allclose(one.boxes, two.boxes, atol=1e-6)
        np.testing.assert_allclose(one.boxes, coco.boxes, atol=1e-6)
        assert one.labels.tolist() == two.labels.tolist() == coco.labels.tolist()
        assert one.classes is not None
        assert two.classes is not None
        np.testing.assert_array_equal(one.classes, two.classes)
        assert coco.classes is None


def test_marks_are_resized_with_their_picture(folder: Path) -> None:
    small = load_marked(str(folder), (24, 32), 0, SHARES)
    whole = load_marked(str(folder), None, 0, SHARES)
    assert small.size == (24, 32)
    boxes = [sorted(m.boxes.ravel().tolist()) for p in (small, whole) for m in all_of(p)]
    assert sorted(boxes[:24]) == sorted(boxes[24:])
    assert all(m.classes is not None and m.classes.shape == (24, 32) for m in all_of(small))


def write(folder: Path, pictures: Path, rows: list[Any]) -> Path:
    (folder / "images").mkdir()
    for number in (0, 1):
        name = f"images/{number:05d}.png"
        (folder / name).write_bytes((pictures / name).read_bytes())
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ({"bbox": [[0, 0, 9, 9]], "categories": []}, "1 boxes, but 0 categories"),
        ({"bbox": [[0, 0, 9]], "categories": ["a"]}, "left, top, width and height"),
        ({"bbox": [[0, 0, 0, 9]], "categories": ["a"]}, "left, top, width and height"),
        ({"bbox": [[0, 0, "9", 9]], "categories": ["a"]}, "left, top"),
        ({"bbox": [[50, 0, 30, 9]], "categories": ["a"]}, "is not in a picture of 48 x 64"),
    ],
)
def test_every_bad_row_is_named(
    objects: dict[str, Any], said: str, folder: Path, tmp_path: Path
) -> None:
    good = {"file_name": "images/00000.png", "objects": {"bbox": [], "categories": []}}
    rows = [good, good | {"objects": objects}, good | {"file_name": "images/none.png"}, {}]
    with pytest.raises(DataError) as caught:
        load_marked(str(write(tmp_path, folder, rows)), None, 0, SHARES)
    assert said in str(caught.value)
    assert all(f"row {number}" in str(caught.value) for number in (2, 3, 4))
    assert "row 1:" not in str(caught.value)


def test_other_masks_are_other_data(folder: Path, tmp_path: Path) -> None:
    one = load_marked(str(folder), None, 0, SHARES)
    shutil.copytree(folder, tmp_path / "other")
    for mask in (tmp_path / "other" / "masks").glob("*.png"):
        with Image.open(mask) as image:
            Image.fromarray(np.zeros_like(np.asarray(image))).save(mask)
    assert load_marked(str(tmp_path / "other"), None, 0, SHARES).fingerprint != one.fingerprint


def test_a_number_that_no_mask_can_hold_is_no_class(folder: Path, tmp_path: Path) -> None:
    row = {
        "file_name": "images/00000.png",
        "objects": {"bbox": [[1, 1, 4, 4]], "categories": [10**10]},
    }
    with pytest.raises(DataError, match="expected at most 254"):
        load_marked(str(write(tmp_path, folder, [row])), None, 0, SHARES)


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere", "scenes"), ("scenes:many", "at least 1"), ("scenes:0", "at least 1")],
)
def test_what_is_no_data_is_said(name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_marked(name, None, 0, SHARES)


def test_a_mask_must_fit_and_a_file_must_be_coco(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="form of COCO"):
        load_marked(str(tmp_path), None, 0, SHARES)
    row = {"file_name": "images/00000.png", "mask_file_name": "images/00001.png"}
    (tmp_path / "annotations.json").unlink()
    with pytest.raises(DataError, match="mask is RGB"):
        load_marked(str(write(tmp_path, folder, [row])), None, 0, SHARES)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), flip=st.sampled_from(["", "across", "both"]))
def test_marks_are_mirrored_with_their_picture(seed: int, flip: str) -> None:
    """The box of a class's pixels is its box, before and after."""
    classes = np.zeros((20, 30), np.uint8)
    classes[3:9, 5:25] = 1
    box = np.array([[15 / 30, 6 / 20, 20 / 30, 6 / 20]], np.float32)
    picture = np.repeat(classes[..., None] * 200, 3, axis=2)
    got = mirrored(Marked(picture, np.array([0]), box, classes), flip, np.random.default_rng(seed))
    assert got.classes is not None
    np.testing.assert_array_equal(got.picture[..., 0] > 0, got.classes > 0)
    rows, columns = np.nonzero(got.classes)
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    centre = [(a + b) / 2 / side for a, b, side in zip(low, high, (30, 20), strict=True)]
    np.testing.assert_allclose(got.boxes[0], [*centre, 20 / 30, 6 / 20], atol=1e-6)
    if not flip:
        np.testing.assert_array_equal(got.picture, picture)


def config(family: str, task: str, **others: Any) -> TrainConfig:
    return TrainConfig(
        family, task, "scenes:24", 1, validation=0.3, test=0.3, flip="both",
        model={"image_size": [32, 32]}, **others,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("family", "task"), [("detr", "object-detection"), ("segmenter", "image-segmentation")]
)
def test_pictures_are_mirrored_in_training_alone(family: str, task: str) -> None:
    objective, rows = objective_of(config(family, task)), np.arange(4)
    as_they_are = objective.batch("train", rows, None).feeds["pixel_values"]
    again = objective.batch("train", rows, None).feeds["pixel_values"]
    np.testing.assert_array_equal(as_they_are, again)
    changed = objective.batch("train", rows, np.random.default_rng(0)).feeds["pixel_values"]
    assert not np.array_equal(as_they_are, changed)


def test_what_answers_right_scores_one() -> None:
    detection = objective_of(config("detr", "object-detection"))
    batch = detection.batch("validation", np.arange(detection.data.validation), None)
    targets = torch.from_numpy(batch.targets)
    logits = torch.nn.functional.one_hot(targets.clamp(min=0), 4).float() * 20
    logits[targets == IGNORED] = torch.tensor([0.0, 0.0, 0.0, 20.0])
    answer = {"logits": logits, "pred_boxes": torch.from_numpy(batch.feeds["boxes"])}
    assert detection.score(detection.judge(answer, batch)) == pytest.approx(1.0)  # type: ignore[attr-defined]
    assert detection.loss(answer, batch) < 1e-3  # type: ignore[attr-defined]
    pixels = objective_of(config("segmenter", "image-segmentation"))
    batch = pixels.batch("validation", np.arange(pixels.data.validation), None)
    classes = torch.nn.functional.one_hot(torch.from_numpy(batch.targets), 4).float()
    answer = {"logits": classes.permute(0, 3, 1, 2) * 20}
    assert pixels.score(pixels.judge(answer, batch)) == 1.0  # type: ignore[attr-defined]
    assert pixels.loss(answer, batch) / batch.count < 1e-3  # type: ignore[attr-defined]
    half = {"logits": answer["logits"][:, :, ::2, ::2]}
    assert pixels.score(pixels.judge(half, batch)) > 0.5, "the rest is drawn between"  # type: ignore[attr-defined]


# --- the loss of sets ---------------------------------------------------------------------------


def answers(seed: int, queries: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(2, queries, 4), torch.rand(2, queries, 4) * 0.4 + 0.3


WANTED = (
    torch.tensor([[0, 2, 1], [1, IGNORED, IGNORED]]),
    torch.tensor(
        [
            [[0.3, 0.3, 0.2, 0.2], [0.7, 0.6, 0.3, 0.4], [0.5, 0.8, 0.1, 0.3]],
            [[0.4, 0.5, 0.6, 0.3], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    ),
)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), order=st.permutations(range(6)))
def test_the_order_of_queries_does_not_matter(seed: int, order: list[int]) -> None:
    logits, boxes = answers(seed)
    torch.testing.assert_close(
        set_loss(logits[:, order], boxes[:, order], *WANTED), set_loss(logits, boxes, *WANTED)
    )


def test_things_are_matched_with_the_queries_that_cost_least() -> None:
    """No other way of giving three things to six queries is cheaper."""
    from itertools import permutations

    logits, boxes = answers(7)
    picture, query, thing = match(logits, boxes, *WANTED)
    assert picture.tolist() == [0, 0, 0, 1]

    def cost(queries: tuple[int, ...]) -> float:
        total = 0.0
        for i, q in enumerate(queries):
            one, other = boxes[0, q][None], WANTED[1][0, i][None]
            total -= 2 * float(logits[0, q].softmax(-1)[WANTED[0][0, i]])
            total += 5 * float((one - other).abs().sum())
            total -= 2 * float(generalized_iou(corners(one), corners(other)))
        return total

    chosen = {int(t): int(q) for p, q, t in zip(picture, query, thing, strict=True) if p == 0}
    least = min(permutations(range(6), 3), key=cost)
    assert tuple(chosen[i] for i in range(3)) == least


def test_a_picture_without_things_teaches_to_find_nothing() -> None:
    labels = torch.full((1, 2), IGNORED)
    nothing = torch.tensor([0.0, 0.0, 0.0, 9.0]).expand(1, 6, 4)
    _, boxes = answers(0)
    quiet = set_loss(nothing, boxes[:1], labels, torch.zeros(1, 2, 4))
    loud = set_loss(-nothing, boxes[:1], labels, torch.zeros(1, 2, 4))
    assert 0 <= quiet < 0.01 < 1 < loud


@settings(deadline=None, max_examples=50)
@given(numbers=st.lists(st.floats(0.05, 0.95), min_size=8, max_size=8))
def test_generalized_iou_lies_between_minus_one_and_one(numbers: list[float]) -> None:
    one, other = (corners(torch.tensor(numbers[i : i + 4])) for i in (0, 4))
    value = float(generalized_iou(one, other))
    assert -1.0 <= value <= 1.0 + 1e-6
    assert value == pytest.approx(float(generalized_iou(other, one)), abs=1e-6)
    assert float(generalized_iou(one, one)) == pytest.approx(1.0, abs=1e-4)
