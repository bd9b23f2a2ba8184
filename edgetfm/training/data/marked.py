"""Pictures on which things are marked: boxes with a class, and the class of every pixel."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import DataError, InputError, MissingExtra, listed
from edgetfm.files import inside
from edgetfm.tables import read_rows
from edgetfm.training.data.parts import Part, Shares, fingerprint, parted

if TYPE_CHECKING:
    from edgetfm.samples.scenes import Scene

SCENES = "scenes"
COUNT = 10_000
"""Scenes that are generated unless `scenes:COUNT` says how many."""
METADATA, COCO = "metadata.jsonl", "annotations.json"
MOST_CLASSES = 254
"""The largest number of a class: masks are of 8 bits, and 0 in them is the ground."""
GROUND = "background"
"""The name of class 0 of pixels, where nothing is."""


@dataclass(frozen=True)
class Marked:
    """One picture, uint8 [height, width, 3], and what is marked on it.

    labels: int64 [things]; boxes: float32 [things, 4], centre, width and height as shares of the
    picture; classes: uint8 [height, width], 0 for the ground, else 1 + the label; None if nobody
    marked pixels.
    """

    picture: NDArray[np.uint8]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    classes: NDArray[np.uint8] | None


@dataclass(frozen=True)
class MarkedPictures:
    """Pictures of one size in three parts; `labels` are the names of the things' classes."""

    name: str
    labels: tuple[str, ...]
    parts: Mapping[Part, list[Marked]]
    fingerprint: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of all pictures."""
        height, width, _ = self.parts["train"][0].picture.shape
        return height, width


def load_marked(
    name: str, size: tuple[int, int] | None, seed: int, shares: Shares
) -> MarkedPictures:
    """'scenes', generated (of `seed`), or a folder of pictures with metadata.jsonl or COCO's file.

    A folder holds `metadata.jsonl`, rows with file_name, objects (bbox as left, top, width and
    height in pixels, and categories) and, for pixels, mask_file_name; or `annotations.json` in the
    form of COCO, which may also be given itself. size: (height, width) that pictures are resized
    to, by default that of the first. DataError for what cannot be used, all rows at once.
    """
    made = generated(name, seed, size)
    labels, marked = _read(Path(name), size) if made is None else _of_scenes(made)
    contents = [m.picture.tobytes() for m in marked]
    parts = parted(zip(contents, marked, strict=True), shares, name)
    whole = fingerprint(
        content
        + m.boxes.tobytes()
        + m.labels.tobytes()
        + (b"" if m.classes is None else m.classes.tobytes())
        for content, m in zip(contents, marked, strict=True)
    )
    return MarkedPictures(Path(name).stem, labels, parts, whole)


def generated(name: str, seed: int, size: tuple[int, int] | None) -> Iterator[Scene] | None:
    """The scenes that 'scenes' or 'scenes:COUNT' names; None for another name, or a file of it."""
    from edgetfm.samples.scenes import SIZE, scenes

    kind, _, count = name.partition(":")
    if kind != SCENES or Path(name).exists():
        return None
    if count and not (count.isdecimal() and int(count)):
        raise DataError(f"dataset is '{name}': give '{SCENES}' or '{SCENES}:COUNT', at least 1")
    return scenes(int(count or COUNT), seed, size or SIZE)


def _of_scenes(made: Iterator[Scene]) -> tuple[tuple[str, ...], list[Marked]]:
    from edgetfm.samples.scenes import CLASSES

    marked = []
    for scene in made:
        labels = np.array([thing.label for thing in scene.things], np.int64)
        boxes = [thing.box for thing in scene.things]
        shares = _shares(boxes, *scene.picture.shape[:2])
        marked.append(Marked(scene.picture, labels, shares, scene.classes))
    return CLASSES, marked


def _shares(boxes: Any, height: int, width: int) -> NDArray[np.float32]:
    """[n, 4] of left, top, width and height in pixels to centre and size as shares."""
    found = np.asarray(boxes, np.float64).reshape(-1, 4)
    found = np.concatenate([found[:, :2] + found[:, 2:] / 2, found[:, 2:]], axis=1)
    return np.asarray(found / [width, height, width, height], np.float32)


# --- files --------------------------------------------------------------------------------------


def _read(path: Path, size: tuple[int, int] | None) -> tuple[tuple[str, ...], list[Marked]]:
    rows, names = _rows(path)
    folder = path if path.is_dir() else path.parent
    index = {name: i for i, name in enumerate(names)}
    marked, problems = [], list[str]()
    for place, row in rows:
        try:
            made = _marked(folder, row, index, size)
        except (InputError, KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"{place}: {what}")
            continue
        size = size or made.picture.shape[:2]
        marked.append(made)
    if problems:
        more = [f"and {len(problems) - 20} more"] if len(problems) > 20 else []
        raise DataError(f"{path} cannot be used:\n{listed(problems[:20] + more)}")
    return names, marked


def _rows(path: Path) -> tuple[list[tuple[str, dict[str, Any]]], tuple[str, ...]]:
    """The rows with their places in words, and the names of the classes."""
    file = path
    if path.is_dir():
        file = next((path / n for n in (METADATA, COCO) if (path / n).is_file()), path)
    if not file.is_file():
        raise DataError(
            f"no marked pictures at {path}: give '{SCENES}', a folder with {METADATA} or {COCO}, "
            "or such a file"
        )
    if file.suffix == ".json":
        return _coco(file)
    rows = [(f"row {number}", row) for number, row in read_rows(file)]
    found: set[str] = set()
    for _, row in rows:
        objects = row.get("objects")
        categories = objects.get("categories") if isinstance(objects, dict) else None
        found |= {str(c) for c in categories} if isinstance(categories, list) else set()
    # Numbers count from 0 up to the largest that is there; names are in their order.
    if found and all(name.isdecimal() for name in found):
        if max(map(int, found)) > MOST_CLASSES:
            raise DataError(
                f"{path}: category {max(found, key=int)} is given, expected at most {MOST_CLASSES}"
            )
        found |= {str(i) for i in range(max(map(int, found)))}
        return rows, tuple(sorted(found, key=int))
    return rows, tuple(sorted(found))


def _coco(file: Path) -> tuple[list[tuple[str, dict[str, Any]]], tuple[str, ...]]:
    """COCO's file as rows: https://cocodataset.org/#format-data. Crowds are left out."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        names = {c["id"]: str(c["name"]) for c in data["categories"]}
        rows = {
            i["id"]: {"file_name": i["file_name"], "objects": {"bbox": [], "categories": []}}
            for i in data["images"]
        }
        for found in data["annotations"]:
            if not found.get("iscrowd"):
                objects = rows[found["image_id"]]["objects"]
                objects["bbox"].append(found["bbox"])
                objects["categories"].append(names[found["category_id"]])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{file} is not in the form of COCO: {error!r:.200}") from error
    ordered = tuple(names[i] for i in sorted(names))
    return [(f"image {i}", row) for i, row in rows.items()], ordered


def _marked(
    folder: Path, row: Mapping[str, Any], index: Mapping[str, int], size: tuple[int, int] | None
) -> Marked:
    from edgetfm.runtime.images import opened

    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("vision", "marked pictures") from error
    image = opened(inside(folder, str(row["file_name"])))
    height, width = image.height, image.width
    boxes, labels = _things(row.get("objects") or {}, index, height, width)
    sides = size or (height, width)
    picture = image.convert("RGB").resize((sides[1], sides[0]), Image.Resampling.BILINEAR)
    classes = None
    if row.get("mask_file_name"):
        mask = opened(inside(folder, str(row["mask_file_name"])))
        if (mask.height, mask.width) != (height, width) or mask.mode not in ("L", "P"):
            raise ValueError(
                f"its mask is {mask.mode} of {mask.height} x {mask.width} pixels, expected 8 bits "
                f"a pixel of {height} x {width}"
            )
        classes = np.array(mask.resize((sides[1], sides[0]), Image.Resampling.NEAREST), np.uint8)
        if classes.max() > len(index):
            raise ValueError(f"its mask has class {classes.max()}, there are {len(index)}")
    return Marked(np.array(picture, np.uint8), labels, boxes, classes)


def _things(
    objects: Mapping[str, Any], index: Mapping[str, int], height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    found, names = objects.get("bbox", []), objects.get("categories", [])
    if len(found) != len(names):
        raise ValueError(f"{len(found)} boxes, but {len(names)} categories")
    for box in found:
        numbers = isinstance(box, list) and all(isinstance(x, int | float) for x in box)
        if not numbers or len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0:
            raise ValueError(f"the box {box!r:.80} is not left, top, width and height in pixels")
        beyond = (box[0] + box[2] > width + 1, box[1] + box[3] > height + 1, min(box[:2]) < -1)
        if any(beyond):
            raise ValueError(f"the box {box} is not in a picture of {height} x {width} pixels")
    return _shares(found, height, width), np.array([index[str(n)] for n in names], np.int64)
