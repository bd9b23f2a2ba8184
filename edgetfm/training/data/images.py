"""Labelled images for training, split so that no image is in two splits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import DataError, MissingExtra, listed
from edgetfm.training.data.parts import PARTS, Shares

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

SPLITS = {"test": 0.2, "validation": 0.15, "train": 0.65}
"""The share of each split unless told: which one an image is in follows from its bytes alone."""

MEAN, STD = 0.5, 0.5
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True)
class Split:
    """Images [count, height, width, channels] of uint8 and the index of each one's label."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Images of one size in three splits; `fingerprint` is the hash of all of them."""

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fingerprint: str

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.train.images.shape[1])

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.train.images.shape[2])

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.train.images.shape[3])


def pixel_values(images: Images) -> NDArray[np.float32]:
    """What a model takes: [count, channels, height, width], (x / 255 - MEAN) / STD."""
    scaled = images.astype(np.float32) * np.float32(1 / 255)
    return np.ascontiguousarray(((scaled - MEAN) / STD).transpose(0, 3, 1, 2), dtype=np.float32)


def load_dataset(
    name: str,
    size: tuple[int, int] | None = None,
    channels: int = 3,
    shares: Shares | None = None,
) -> Dataset:
    """The dataset called 'digits', or in a .npz file or an image folder.

    A .npz file holds `images` [count, height, width] or [count, height, width, channels] of uint8
    and `labels`, numbers or texts. An image folder holds a folder of images for each label; they
    are resized to `size` (height, width), by default that of the first one, and made grey if
    `channels` is 1.
    Raises DataError if there is nothing to train or to test on.
    """
    path = Path(name)
    if name == "digits":
        images, names = _digits()
    elif path.is_file() and path.suffix == ".npz":
        images, names = _npz(path)
    elif path.is_dir():
        images, names = _folder(path, size, channels)
    else:
        raise DataError(f"no dataset '{name}': give 'digits', a .npz file or a folder of images")
    return split(path.stem if path.exists() else name, images, names, shares)


def split(name: str, images: Images, names: list[str], shares: Shares | None = None) -> Dataset:
    """Images and their labels' names in three splits, equal images always in the same one."""
    labels = tuple(sorted(set(names)))
    index = {label: i for i, label in enumerate(labels)}
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
    shares = shares or Shares(SPLITS["validation"], SPLITS["test"])
    place = np.array([shares.part_of(image.tobytes()) for image in images])
    numbers = np.array([index[n] for n in names], dtype=np.int64)
    parts: dict[str, Split] = {}
    for part in PARTS:
        chosen = place == part
        parts[part] = Split(np.ascontiguousarray(images[chosen]), numbers[chosen])
    problems = [f"no image falls into the {p} split" for p, s in parts.items() if not len(s)]
    unseen = set(range(len(labels))) - set(parts["train"].labels.tolist())
    problems += [f"no training image has the label '{labels[i]}'" for i in sorted(unseen)]
    if len(labels) < 2:
        problems.append(f"{len(labels)} labels; a classifier needs 2")
    if problems:
        raise DataError(f"{name}, {len(images)} images, is too small:\n{listed(problems)}")
    whole = hashlib.sha256(b"".join(d + n.encode() for d, n in zip(digests, names, strict=True)))
    return Dataset(name, labels, **parts, fingerprint=whole.hexdigest())


def _digits() -> tuple[Images, list[str]]:
    """1,797 handwritten digits of 8 x 8 pixels, stretched from 0..16 to 0..255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra("train", "the dataset 'digits'") from error
    pixels, digits = load_digits(return_X_y=True)
    images: Images = np.round(pixels.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return images, [str(d) for d in digits]


def _npz(path: Path) -> tuple[Images, list[str]]:
    try:
        with np.load(path, allow_pickle=False) as data:
            missing = [key for key in ("images", "labels") if key not in data]
            if missing:
                raise DataError(f"{path} has no {' and no '.join(missing)}; it has {list(data)}")
            images, labels = data["images"], data["labels"]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is not a .npz file that can be read: {error}") from error
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise DataError(
            f"{path}: images are {images.dtype}{list(images.shape)}, expected "
            "uint8[count, height, width] or uint8[count, height, width, 1 or 3]"
        )
    if labels.shape != images.shape[:1]:
        raise DataError(f"{path}: {len(images)} images, but labels of shape {labels.shape}")
    return images, [str(label) for label in labels]


def _folder(path: Path, size: tuple[int, int] | None, channels: int) -> tuple[Images, list[str]]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingExtra("vision", "a folder of images") from error
    found = sorted(
        p for p in path.glob("*/*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
    )
    if not found:
        raise DataError(f"{path} holds no LABEL/IMAGE; images are {', '.join(IMAGE_SUFFIXES)}")
    images, problems = [], []
    for file in found:
        try:
            with Image.open(file) as opened:
                colour = opened.convert("L" if channels == 1 else "RGB")
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            problems.append(f"{file} is not an image that can be read: {error}")
            continue
        size = size or (colour.height, colour.width)
        images.append(np.asarray(colour.resize((size[1], size[0]), Image.Resampling.BILINEAR)))
    if problems:
        raise DataError(listed(problems))
    stacked: Images = np.stack(images)
    return stacked.reshape(*stacked.shape[:3], channels), [file.parent.name for file in found]


def shifted(images: Images, limit: int, random: np.random.Generator) -> Images:
    """Each image moved by up to `limit` pixels in both directions; black comes in at the edge."""
    if limit == 0:
        return images
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (limit, limit), (limit, limit), (0, 0)))
    down, right = random.integers(0, 2 * limit + 1, size=(2, count, 1))
    rows, columns = down + np.arange(height), right + np.arange(width)
    moved: Images = padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved


def flipped(images: Images, how: str, random: np.random.Generator) -> Images:
    """Each image as seen in a mirror, or not: with `both`, on its head too; '' leaves them."""
    sides = {"": (), "across": (2,), "both": (2, 1)}[how]
    for axis in sides:
        chosen = random.random(len(images)) < 0.5
        images = np.where(chosen[:, None, None, None], np.flip(images, axis), images)
    return images
