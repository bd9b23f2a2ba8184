"""Generated scenes: circles, squares and triangles that lie over each other, always the same.

What is where in a scene is known to the pixel, so that detectors, segmenters and captioners can be
trained and judged on it; and it belongs to nobody.

    python -m edgetfm.samples.scenes FOLDER --count 200 --seed 7

writes a folder of pictures in the form of Hugging Face's image folders, with the same objects in
that of COCO.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import InputError, MissingExtra

_Plane = NDArray[np.float64]
_Mask = NDArray[np.bool_]

CLASSES = ("circle", "square", "triangle")
SIZE = (96, 96)
MOST = 8
RADII = (0.08, 0.21)
"""Of a thing, as a share of the shorter side."""
SEEN = 0.5
"""The share of every thing that nothing lies over."""
APART = 0.35
"""How far colours, from 0 to 1 in each of three, are from the ground's and other things'."""
TRIES = 50
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


@dataclass(frozen=True)
class Thing:
    """One thing of a scene.

    label: the index of its class. box: of what is seen of it, (left, top, width, height) in
    pixels. mask: [height, width], where it is seen.
    """

    label: int
    box: tuple[int, int, int, int]
    mask: _Mask


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 [height, width, 3] in RGB, and its one to eight things."""

    picture: NDArray[np.uint8]
    things: tuple[Thing, ...]

    @property
    def classes(self) -> NDArray[np.uint8]:
        """The class of each pixel, [height, width]: 0 for the ground, else 1 + the label."""
        found = np.zeros(self.picture.shape[:2], np.uint8)
        for thing in self.things:
            found[thing.mask] = thing.label + 1
        return found

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each class that there is, in the order of CLASSES."""
        found = Counter(thing.label for thing in self.things)
        return {CLASSES[label]: found[label] for label in sorted(found)}

    @property
    def caption(self) -> str:
        """What it shows in words: 'two circles and one triangle'."""
        parts = [f"{NUMBERS[n]} {name}{'s' * (n > 1)}" for name, n in self.counts.items()]
        return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def scenes(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> Iterator[Scene]:
    """`count` scenes of `size` (height, width); the same for the same seed, whatever the count."""
    for number in range(count):
        yield scene(np.random.default_rng([seed, number]), size)


def scene(random: np.random.Generator, size: tuple[int, int] = SIZE) -> Scene:
    """One scene: of every thing at least SEEN is to be seen."""
    canvas, ground = _ground(random, size)
    colours, labels, wholes, masks = [ground], list[int](), list[int](), list[_Mask]()
    for _ in range(int(random.integers(1, MOST + 1))):
        for _ in range(TRIES):
            label = int(random.integers(len(CLASSES)))
            inside = _shape(random, label, size)
            left = [mask & ~(inside > 0) for mask in masks]
            if all(m.sum() >= SEEN * whole for m, whole in zip(left, wholes, strict=True)):
                break
        else:
            break  # no room is left
        colours.append(_colour(random, colours))
        alpha = np.clip(inside + 0.5, 0.0, 1.0)[..., None]
        canvas = canvas * (1 - alpha) + colours[-1] * alpha
        labels.append(label)
        wholes.append(int((inside > 0).sum()))
        masks = [*left, inside > 0]
    picture = canvas + random.normal(0, 0.02, canvas.shape)
    things = (Thing(label, _box(mask), mask) for label, mask in zip(labels, masks, strict=True))
    return Scene((picture.clip(0, 1) * 255).round().astype(np.uint8), tuple(things))


def _box(mask: _Mask) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    return (left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top)


def _axes(size: tuple[int, int]) -> tuple[_Plane, _Plane]:
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    return y + 0.5, x + 0.5


def _ground(random: np.random.Generator, size: tuple[int, int]) -> tuple[_Plane, _Plane]:
    """A ground [height, width, 3] that goes from one shade to another, and its mean colour."""
    y, x = _axes(size)
    angle = random.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * (x / size[1] - 0.5) + np.sin(angle) * (y / size[0] - 0.5)
    colour, slope = random.uniform(0.1, 0.9, 3), random.uniform(-0.2, 0.2, 3)
    return np.asarray(colour + slope * ramp[..., None]), colour


def _colour(random: np.random.Generator, others: list[_Plane]) -> _Plane:
    """A colour that can be told from others; the farthest of some where none can."""
    drawn = random.uniform(0, 1, (TRIES, 3))
    nearest = np.linalg.norm(drawn[:, None] - np.stack(others), axis=-1).min(1)
    far = np.flatnonzero(nearest >= APART)
    return np.asarray(drawn[far[0] if len(far) else nearest.argmax()])


def _shape(random: np.random.Generator, label: int, size: tuple[int, int]) -> _Plane:
    """How many pixels each one lies inside of a shape of this class, [height, width]."""
    y, x = _axes(size)
    radius = random.uniform(*RADII) * min(size)
    across, down = (random.uniform(radius, side - radius) for side in (size[1], size[0]))
    turn = random.uniform(0, 2 * np.pi)
    x, y = x - across, y - down
    if CLASSES[label] == "circle":
        return np.asarray(radius - np.hypot(x, y))
    sides = 4 if CLASSES[label] == "square" else 3
    angles = turn + 2 * np.pi * np.arange(sides) / sides
    # A side is as far from the middle as `radius` times the cosine of half a side's angle.
    beyond = [np.cos(a) * x + np.sin(a) * y for a in angles]
    return np.asarray(radius * np.cos(np.pi / sides) - np.max(beyond, axis=0))


# --- written to a folder ------------------------------------------------------------------------


def write_scenes(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    """Write pictures, masks of classes, metadata.jsonl and annotations.json to a new folder.

    metadata.jsonl has a row a picture, as Hugging Face's image folders: file_name, mask_file_name,
    text, and objects with their bbox (left, top, width, height) and categories. annotations.json
    holds the same boxes in the form of COCO. A mask has 0 for the ground, else 1 + the category.
    Raises InputError for a folder that holds something.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("vision", "writing pictures") from error
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and holds something: give a new folder")
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for number, made in enumerate(scenes(count, seed, size)):
        name, mask = f"images/{number:05d}.png", f"masks/{number:05d}.png"
        Image.fromarray(made.picture).save(folder / name)
        Image.fromarray(made.classes).save(folder / mask)
        objects = {
            "bbox": [list(thing.box) for thing in made.things],
            "categories": [CLASSES[thing.label] for thing in made.things],
        }
        rows.append(
            {"file_name": name, "mask_file_name": mask, "text": made.caption, "objects": objects}
        )
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    (folder / "annotations.json").write_text(json.dumps(_as_coco(rows, size)), encoding="utf-8")


def _as_coco(rows: list[dict[str, Any]], size: tuple[int, int]) -> dict[str, Any]:
    """The rows in the form of COCO's instances (https://cocodataset.org/#format-data)."""
    height, width = size
    images = [
        {"id": i, "file_name": row["file_name"], "height": height, "width": width}
        for i, row in enumerate(rows, 1)
    ]
    found = [
        {"image_id": i, "category_id": CLASSES.index(name) + 1, "bbox": box}
        for i, row in enumerate(rows, 1)
        for box, name in zip(row["objects"]["bbox"], row["objects"]["categories"], strict=True)
    ]
    annotations = [
        {"id": i, "area": a["bbox"][2] * a["bbox"][3], "iscrowd": 0, **a}
        for i, a in enumerate(found, 1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("HEIGHT", "WIDTH"))
    given = parser.parse_args()
    write_scenes(given.folder, given.count, given.seed, tuple(given.size))


if __name__ == "__main__":
    _main()
