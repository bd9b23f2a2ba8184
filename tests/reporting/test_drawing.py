"""What was found is drawn on a copy, where it was found."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edgetfm.reporting.drawing import LEAST, colour, with_boxes, with_classes

GREY = np.full((40, 60, 3), 90, np.uint8)


def test_a_box_is_drawn_around_what_was_found() -> None:
    box = {"xmin": 20, "ymin": 20, "xmax": 45, "ymax": 35}
    drawn = np.asarray(with_boxes(GREY, [{"score": 0.9, "label": "cat", "box": box}]))
    scale = drawn.shape[0] // 40
    assert drawn.shape[:2] == (40 * scale, 60 * scale)
    assert max(drawn.shape) >= LEAST, "small pictures are drawn on larger"
    assert tuple(drawn[20 * scale, 40 * scale]) == colour(0)
    assert tuple(drawn[30 * scale, 20 * scale]) == colour(0)
    assert (drawn[25 * scale : 30 * scale, 25 * scale : 40 * scale] == 90).all()
    assert (drawn[38 * scale :] == 90).all()
    assert (GREY == 90).all(), "the picture itself stays"


def test_nothing_found_is_the_picture_itself() -> None:
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 300, 3), np.uint8))
    np.testing.assert_array_equal(np.asarray(with_boxes(large, [])), np.asarray(large))
    np.testing.assert_array_equal(np.asarray(with_classes(large, [])), np.asarray(large))


def test_boxes_beyond_the_picture_are_drawn_up_to_its_edge() -> None:
    box = {"xmin": -30, "ymin": -9, "xmax": 400, "ymax": 99}
    with_boxes(GREY, [{"score": 0.5, "label": "a very long name " * 9, "box": box}])
    inverted = {"xmin": 30, "ymin": 30, "xmax": 10, "ymax": 10}
    with_boxes(np.zeros((1, 1), np.uint8), [{"score": 0.5, "label": "dot", "box": inverted}])


def test_classes_are_tinted_where_they_are_and_the_ground_is_not() -> None:
    ground = np.full((400, 400), 255, np.uint8)
    ground[300:, 300:] = 0
    classes = [{"label": "ground", "mask": ground}, {"label": "cat", "mask": 255 - ground}]
    drawn = np.asarray(with_classes(np.full((400, 400, 3), 90, np.uint8), classes))
    assert (drawn[100:300, 100:300] == 90).all()
    wanted = np.round(0.5 * 90 + 0.5 * np.array(colour(0)))
    np.testing.assert_allclose(drawn[350, 350], wanted, atol=1)
