"""Boxes are counted as COCO counts them, pixels by intersection over union."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from edgetfm.errors import DataError
from edgetfm.samples.scenes import write_scenes
from edgetfm.scoring.evaluation import read_eval
from edgetfm.scoring.found import Boxes, confusion, mean_average_precision, mean_iou
from edgetfm.tasks import TASKS

ONE = Boxes(np.array([[10.0, 10, 20, 20]]), np.array([0]))


def found(*rows: tuple[float, float, float, float, int, float]) -> Boxes:
    """Left, top, width, height, label, score."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Boxes(table[:, :4], table[:, 4].astype(int), table[:, 5])


@pytest.mark.parametrize(
    ("answer", "map50", "map_"),
    [
        (found((10, 10, 20, 20, 0, 0.9)), 1.0, 1.0),
        (found((10, 10, 20, 20, 1, 0.9)), 0.0, 0.0),
        (found((10, 10, 20, 15, 0, 0.9)), 1.0, 0.6),  # 0.75 of both: overlaps of 0.5 to 0.75
        (found((60, 60, 20, 20, 0, 0.9), (10, 10, 20, 20, 0, 0.5)), 0.5, 0.5),
        (found((60, 60, 20, 20, 0, 0.4), (10, 10, 20, 20, 0, 0.5)), 1.0, 1.0),
        (found(), 0.0, 0.0),
    ],
)
def test_precision_is_what_coco_says(answer: Boxes, map50: float, map_: float) -> None:
    values = mean_average_precision([ONE], [answer])
    assert values["map50"] == pytest.approx(map50, abs=0.01)
    assert values["map"] == pytest.approx(map_, abs=0.01)


def test_pictures_without_objects_are_judged_too() -> None:
    empty = Boxes(np.zeros((0, 4)), np.zeros(0, int))
    right = mean_average_precision([ONE, empty], [found((10, 10, 20, 20, 0, 0.5)), found()])
    assert right["map50"] == pytest.approx(1.0)
    false = found((10, 10, 20, 20, 0, 0.9))
    wrong = mean_average_precision([ONE, empty], [found((10, 10, 20, 20, 0, 0.5)), false])
    assert wrong["map50"] == pytest.approx(0.5, abs=0.01)


def test_mean_iou_is_scikit_learns_jaccard_score() -> None:
    random = np.random.default_rng(0)
    wanted, got = random.integers(0, 3, (2, 3, 8, 9))  # of four classes one never occurs
    confused = sum(confusion(w, g, 4) for w, g in zip(wanted, got, strict=True))
    expected = jaccard_score(wanted.ravel(), got.ravel(), average="macro")
    assert mean_iou(np.asarray(confused)) == pytest.approx(expected)


def test_scenes_are_data_to_judge_by(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", 5, seed=1, size=(32, 32))
    table = tmp_path / "scenes" / "metadata.jsonl"
    labels = ("circle", "square", "triangle")
    boxes = read_eval(str(table), TASKS["object-detection"], labels)
    assert (boxes.metric_name, boxes.higher_is_better) == ("map50", True)
    masks = read_eval(str(table), TASKS["image-segmentation"], ("background", *labels))
    assert (masks.metric_name, masks.higher_is_better) == ("mean_iou", True)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows[1]["objects"]["categories"][0] = "star"
    rows[2]["objects"]["bbox"][0] = [1, 2]
    rows[3]["file_name"] = "../elsewhere.png"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        read_eval(str(table), TASKS["object-detection"], labels)
    assert all(f"row {number}" in str(caught.value) for number in (2, 3, 4))
