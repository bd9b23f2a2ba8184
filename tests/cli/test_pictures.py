"""Answers that are pictures go to files, and are told in numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetfm.cli._pictures import check_pictures, options_of, told
from edgetfm.errors import InputError
from edgetfm.tasks import TASKS


def test_a_mask_is_told_by_its_share_and_written_where_a_folder_is_given(tmp_path: Path) -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[:1] = 255
    answer = [{"score": None, "label": "sky/blue", "mask": mask}]
    assert told("a/view.jpg", answer, None) == [{"label": "sky/blue", "covers": 0.25}]
    (found,) = told("a/view.jpg", answer, tmp_path / "masks")
    assert Path(found["mask"]).name == "view-sky_blue.png"
    with Image.open(found["mask"]) as image:
        assert (np.asarray(image) == mask).all()


def test_other_answers_are_told_as_they_are() -> None:
    assert told("a text", [{"label": "good", "score": 0.5}], None) == [
        {"label": "good", "score": 0.5}
    ]
    vector = np.zeros(3, np.float32)
    assert told("a text", vector, None) is vector


@pytest.mark.parametrize("task", TASKS)
def test_pictures_are_for_the_tasks_that_make_them(task: str, tmp_path: Path) -> None:
    """Elsewhere the option would do nothing."""
    check_pictures(task, None)
    if task in ("image-segmentation", "object-detection", "depth-estimation"):
        check_pictures(task, tmp_path)
    else:
        with pytest.raises(InputError, match=f"--pictures is for .*, and this bundle does {task}"):
            check_pictures(task, tmp_path)


def test_labels_are_for_the_task_that_chooses_among_them(tmp_path: Path) -> None:
    zero_shot = "zero-shot-image-classification"
    assert options_of(zero_shot, "a cat, a dog,") == {
        "candidate_labels": ["a cat", "a dog"],
        "top_k": None,
    }
    assert options_of("fill-mask", None) == {}
    with pytest.raises(InputError, match="needs --labels"):
        options_of(zero_shot, None)
    with pytest.raises(InputError, match="this bundle does fill-mask"):
        options_of("fill-mask", "a cat")
    with pytest.raises(InputError, match="--among, --best are for zero-shot"):
        options_of("fill-mask", None, tmp_path, 3)
    with pytest.raises(InputError, match="needs --labels"):
        options_of(zero_shot, "a cat", tmp_path)
