"""Pictures with texts about them: a folder with a table, or arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import DataError, MissingExtra, listed
from edgetfm.tables import read_rows
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.images import Images
from edgetfm.training.data.marked import SCENES, generated
from edgetfm.training.data.parts import PARTS, SHOWN, Part, divided
from edgetfm.training.objectives._objective import DataFacts

if TYPE_CHECKING:
    from edgetfm.samples.scenes import Scene

TABLE = "metadata.jsonl"
FILES, TEXTS = ("file_name", "image", "file"), ("text", "caption")
KNOWN = (
    f"'{SCENES}', a folder with {TABLE} (file_name, text), or a .npz file with images "
    "uint8[count, height, width, 1 or 3], texts [kinds, texts of each] and kind [count]"
)


@dataclass(frozen=True)
class Described:
    """Pictures uint8 [count, height, width, channels] and the number of each one's kind."""

    images: Images
    kinds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kinds)


@dataclass(frozen=True)
class DescribedPictures:
    """Pictures of one size in three parts.

    texts: of each kind all that is said of its pictures, the whole of it first.
    """

    texts: tuple[tuple[str, ...], ...]
    parts: Mapping[Part, Described]
    facts: DataFacts

    @property
    def sizes(self) -> dict[str, Any]:
        """The fields of a family's config that follow from the pictures."""
        _, height, width, channels = self.parts["train"].images.shape
        return {"image_size": (height, width), "channels": channels}

    def first(self, part: Part) -> list[str]:
        """What is said first of each picture of a part."""
        return [self.texts[kind][0] for kind in self.parts[part].kinds]


def described_pictures(config: TrainConfig) -> DescribedPictures:
    """The pictures that a configuration names, in the parts they say or by their hashes.

    dataset: a folder, a file, or 'scenes' or 'scenes:COUNT', generated of the run's seed.
    model.image_size and model.channels: what the pictures of a folder are made. Raises DataError
    that names file and row.
    """
    path = Path(config.dataset)
    size, channels = config.model.get("image_size"), config.model.get("channels", 3)
    sides = tuple(size) if isinstance(size, list | tuple) and len(size) == 2 else None
    made = generated(config.dataset, config.seed, sides)
    if made is not None:
        images, texts, kinds, said = _of_scenes(made)
    elif path.is_file() and path.suffix == ".npz":
        images, texts, kinds, said = _arrays(path)
    elif (path / TABLE).is_file():
        images, texts, kinds, said = _folder(path, size, channels)
    else:
        raise DataError(f"no pictures with texts at {path}: give {KNOWN}")
    contents = [image.tobytes() for image in images]
    items = [(content, row) for row, content in enumerate(contents)]
    rows = divided(items, said, config.shares, path.name)
    digest = hashlib.sha256(images.tobytes() + kinds.tobytes() + repr(texts).encode())
    facts = DataFacts.of(path.stem, digest.hexdigest(), rows)
    return DescribedPictures(
        texts, {part: Described(images[rows[part]], kinds[rows[part]]) for part in PARTS}, facts
    )


_Read = tuple[Images, tuple[tuple[str, ...], ...], NDArray[np.int64], Sequence[str]]
"""Pictures, the texts of each kind, the kind of each picture, and its part, where it is said."""


def _arrays(path: Path) -> _Read:
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, texts = archive["images"], archive["texts"]
            kinds = archive["kind"] if "kind" in archive.files else np.arange(len(texts))
            said = [str(p) for p in archive["part"]] if "part" in archive.files else []
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}; expected {KNOWN}") from error
    images = images[..., None] if images.ndim == 3 else images
    texts = texts[:, None] if texts.ndim == 1 else texts
    problems = []
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        problems.append(f"images are {images.dtype}{list(images.shape)}")
    if texts.ndim != 2 or texts.dtype.kind != "U" or not texts.size:
        problems.append(f"texts are {texts.dtype}{list(texts.shape)}")
    elif kinds.shape != images.shape[:1] or kinds.dtype.kind not in "iu":
        problems.append(f"kind is {kinds.dtype}{list(kinds.shape)}, of {len(images)} pictures")
    elif not len(kinds) or kinds.min() < 0 or kinds.max() >= len(texts):
        problems.append(f"kind is none of the {len(texts)} rows of texts")
    if said and len(said) != len(images):
        problems.append(f"part has {len(said)} rows, images {len(images)}")
    if not problems and (blank := [i for i, row in enumerate(texts) if not row[0].strip()]):
        problems.append(f"nothing is said first of the kinds {blank[:SHOWN]}")
    if problems:
        raise DataError(f"{path} holds something else than {KNOWN}:\n{listed(problems)}")
    rows = tuple(tuple(str(text) for text in row if text.strip()) for row in texts)
    return images, rows, kinds.astype(np.int64), said


def _folder(path: Path, size: Any, channels: int) -> _Read:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("vision", "a folder of images") from error
    images, texts, said, problems = [], list[str](), list[str](), list[str]()
    for number, row in read_rows(path / TABLE):
        name = next((row[key] for key in FILES if isinstance(row.get(key), str)), None)
        text = next((row[key] for key in TEXTS if isinstance(row.get(key), str)), "")
        file = path / str(name)
        if name is None or not text.strip() or not file.resolve().is_relative_to(path.resolve()):
            problems.append(f"row {number} has no {FILES[0]} in the folder, or no {TEXTS[0]}")
            continue
        try:
            with Image.open(file) as opened:
                colour = opened.convert("L" if channels == 1 else "RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            problems.append(f"row {number}: {file} is no image that can be read: {error}")
            continue
        size = size or (colour.height, colour.width)
        images.append(np.asarray(colour.resize((size[1], size[0]), Image.Resampling.BILINEAR)))
        texts.append(text)
        if isinstance(row.get("part"), str):
            said.append(row["part"])
    if said and len(said) != len(images):
        problems.append(f"{len(said)} of {len(images)} rows have a part: give all, or none")
    if problems or not images:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError(f"{path / TABLE}:\n{listed([*problems[:SHOWN], *more] or ['no rows'])}")
    stacked: Images = np.stack(images)
    return stacked.reshape(*stacked.shape[:3], channels), *_kinds(texts), said


def _kinds(texts: Sequence[str]) -> tuple[tuple[tuple[str, ...], ...], NDArray[np.int64]]:
    """Pictures of which the same is said are of one kind."""
    kinds = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return tuple((text,) for text in kinds), np.array([kinds[text] for text in texts])


def _of_scenes(made: Iterator[Scene]) -> _Read:
    images, texts = zip(*((scene.picture, scene.caption) for scene in made), strict=True)
    stacked: Images = np.stack(images)
    return stacked, *_kinds(texts), ()
