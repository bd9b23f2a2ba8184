"""Scenes are the same at every call, and what is said of them is what they show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetfm.errors import InputError
from edgetfm.samples.scenes import CLASSES, MOST, scenes, write_scenes


def test_scenes_are_the_same_whatever_their_number() -> None:
    few, many = list(scenes(3, seed=4)), list(scenes(6, seed=4))
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one.picture, other.picture)
        assert [t.box for t in one.things] == [t.box for t in other.things]
    assert not np.array_equal(few[0].picture, next(scenes(1, seed=5)).picture)


def test_what_is_said_is_what_is_seen() -> None:
    for scene in scenes(40, seed=1, size=(64, 96)):
        assert scene.picture.shape == (64, 96, 3)
        assert 1 <= len(scene.things) <= MOST
        for thing in scene.things:
            left, top, width, height = thing.box
            inside = thing.mask[top : top + height, left : left + width]
            assert inside.sum() == thing.mask.sum() > 0
            edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
            assert all(edge.any() for edge in edges), "a box is no larger than what it holds"
        assert np.stack([t.mask for t in scene.things]).sum(0).max() == 1, "one thing a pixel"
        np.testing.assert_array_equal(
            scene.classes > 0, np.any([t.mask for t in scene.things], axis=0)
        )
        words = scene.caption.replace(",", "").split()
        assert sum(scene.counts.values()) == len(scene.things)
        assert [n for n in CLASSES if {n, f"{n}s"} & set(words)] == list(scene.counts)


def test_half_of_every_thing_is_seen() -> None:
    """Triangles aside, a thing's box is filled by at least a third: nothing is nearly hidden."""
    shares = [t.mask.sum() / (t.box[2] * t.box[3]) for s in scenes(60, seed=2) for t in s.things]
    assert min(shares) > 0.15


def test_a_folder_of_scenes_is_in_the_forms_of_hugging_face_and_coco(tmp_path: Path) -> None:
    write_scenes(tmp_path / "made", 4, seed=3, size=(48, 64))
    rows = [json.loads(x) for x in (tmp_path / "made/metadata.jsonl").read_text().splitlines()]
    coco = json.loads((tmp_path / "made/annotations.json").read_text())
    assert [i["file_name"] for i in coco["images"]] == [r["file_name"] for r in rows]
    for number, (row, scene) in enumerate(zip(rows, scenes(4, 3, (48, 64)), strict=True), 1):
        picture = np.asarray(Image.open(tmp_path / "made" / row["file_name"]))
        np.testing.assert_array_equal(picture, scene.picture)
        mask = np.asarray(Image.open(tmp_path / "made" / row["mask_file_name"]))
        np.testing.assert_array_equal(mask, scene.classes)
        assert row["text"] == scene.caption
        found = [a for a in coco["annotations"] if a["image_id"] == number]
        assert [a["bbox"] for a in found] == row["objects"]["bbox"]
        names = [CLASSES[a["category_id"] - 1] for a in found]
        assert names == row["objects"]["categories"]
    with pytest.raises(InputError, match="holds something"):
        write_scenes(tmp_path / "made", 1)
