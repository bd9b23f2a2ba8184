"""Labelled pictures on which things are marked: read from rows, and held against what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.scoring.examples import Example, Source, file_of
from edgetfm.scoring.found import Boxes, confusion, mean_average_precision, mean_iou
from edgetfm.scoring.score import Score
from edgetfm.signature import Array
from edgetfm.tables import Row

if TYPE_CHECKING:
    from edgetfm.runtime.pipelines import Pipeline


@dataclass(frozen=True)
class MaskFile:
    """A picture of the class of each pixel; two with the same bytes are one."""

    path: Path
    digest: bytes

    def __repr__(self) -> str:
        return f"MaskFile({self.digest.hex()})"

    def read(self) -> Array:
        """[height, width] of the classes; InputError if it does not have 8 bits a pixel."""
        from edgetfm.runtime.images import opened

        image = opened(self.path)
        if image.mode not in ("L", "P"):
            raise InputError(f"{self.path} is {image.mode}, expected 8 bits a pixel: its class")
        return np.asarray(image)


def read_things(source: Source, row: Row) -> Example:
    """A picture and its objects: bbox as left, top, width and height in pixels, and categories."""
    file, digest = file_of(source, row, "image", "file_name", "file")
    objects = row["objects"]
    boxes, names = (
        objects.get(key) if isinstance(objects, dict) else None for key in ("bbox", "categories")
    )
    if not isinstance(boxes, list) or not isinstance(names, list) or len(boxes) != len(names):
        raise ValueError("'objects' has no bbox and categories of one length")
    for box in boxes:
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise ValueError(f"the box {box!r:.80} is not left, top, width and height")
    wanted = tuple((source.label(name), tuple(box)) for name, box in zip(names, boxes, strict=True))
    return Example(file, wanted, digest)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def read_mask(source: Source, row: Row) -> Example:
    """A picture and its mask_file_name: 8 bits a pixel, the number of its class."""
    file, digest = file_of(source, row, "image", "file_name", "file")
    return Example(file, MaskFile(*file_of(source, row, "mask_file_name")), digest)


def measure_boxes(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    """Mean average precision over all that was proposed, however unsure."""
    found = pipe([e.asked for e in examples], threshold=0.0)
    names = sorted({label for e in examples for label, _ in e.wanted} | set(pipe.asked.labels))
    index = {name: i for i, name in enumerate(names)}
    truth = [_boxes([(index[label], box) for label, box in e.wanted]) for e in examples]
    answers = [
        _boxes(
            [(index[o["label"]], _sides(o["box"])) for o in objects],
            np.array([o["score"] for o in objects]),
        )
        for objects in found
    ]
    values = mean_average_precision(truth, answers)
    return {name: Score(value) for name, value in values.items()}


def _boxes(things: Sequence[tuple[int, Any]], scores: Array | None = None) -> Boxes:
    return Boxes(
        np.array([box for _, box in things], np.float64).reshape(-1, 4),
        np.array([label for label, _ in things], np.int64),
        scores,
    )


def _sides(box: dict[str, int]) -> tuple[int, ...]:
    left, top = box["xmin"], box["ymin"]
    return left, top, box["xmax"] - left, box["ymax"] - top


def measure_masks(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    """Mean IoU over all pixels of all pictures."""
    labels, counts = pipe.asked.labels, []
    for example in examples:  # one at a time: answers are as large as the pictures
        wanted, found = example.wanted.read(), np.zeros(0, np.uint8)
        for part in pipe(example.asked):
            found = found if found.size else np.zeros(part["mask"].shape, np.int64)
            found[part["mask"] > 0] = labels.index(part["label"])
        if found.shape != wanted.shape or wanted.max(initial=0) >= len(labels):
            raise InputError(
                f"{example.wanted.path} has {wanted.shape} pixels and classes up to "
                f"{wanted.max(initial=0)}, expected {found.shape} and {len(labels)} classes"
            )
        counts.append(confusion(wanted, found, len(labels)).ravel())
    size = len(labels)
    return {"mean_iou": Score.of_counts(counts, lambda sums: mean_iou(sums.reshape(size, size)))}
