"""What a quantizer looks at: some items of the user's data, or the sample that ships."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgetfm import samples
from edgetfm.errors import DataError
from edgetfm.files import sha256
from edgetfm.quantize.readers import read_texts
from edgetfm.signature import Array, Feeds
from edgetfm.tables import title

Item = TypeVar("Item")

FILES = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64"),
}
"""Modality -> the files of it that a folder may hold: what Pillow and libsndfile read."""

SAMPLES = 256
"""Items that are looked at unless more are asked for."""


@dataclass(frozen=True)
class Calibration:
    """What a quantizer looks at.

    items: texts, picture or audio files, pictures [height, width, 3] uint8, feeds of batch 1, or
    tuples of those, a part for each of a model's senses.
    fingerprint: a sha256 of the items. note: what to tell the user, '' for data of their own.
    """

    name: str
    items: Sequence[str] | Sequence[Path] | Sequence[Array] | Sequence[Feeds] | Sequence[Any]
    fingerprint: str
    note: str = ""

    @property
    def count(self) -> int:
        """The number of items."""
        return len(self.items)


def read_calibration(path: Path | None, modality: str, limit: int = SAMPLES) -> Calibration:
    """At most `limit` different items of the data at `path`; None is the sample that ships, whole.

    path: for texts a .txt (a text a line), .csv, .jsonl or .parquet file, `file::column` to name
    a column, or a folder of .txt files (a text each); else a folder of pictures or of audio.
    modality: 'text', 'image' or 'audio'. Of more than `limit` items those with the smallest hash
    are taken, in their order, so that a sorted file is not cut. Memory holds `limit` items.
    Raises DataError with file and row, MissingExtra for .parquet without pyarrow.
    """
    if limit < 1:
        raise DataError(f"{limit} samples were asked for: it must be 1 or more, better 100")
    if path is None:
        return _shipped(modality)
    file, _, column = str(path).partition("::")
    root = Path(file)
    if not root.exists():
        raise DataError(f"no calibration data at {root}")
    if modality in FILES:
        return _folder(root, modality, limit)
    texts = spread(((text.encode(), text) for text in read_texts(root, column)), limit)
    if not texts:
        raise DataError(f"{root} holds no text to calibrate with")
    return Calibration(title(root), texts, _fingerprint(texts))


def _shipped(modality: str) -> Calibration:
    if modality == "image":
        pictures = samples.pictures()
        digest = hashlib.sha256()
        for picture in pictures:
            digest.update(str(picture.shape).encode() + picture.tobytes())
        return Calibration(
            "generated pictures",
            pictures,
            digest.hexdigest(),
            f"calibrated and judged on {len(pictures)} generated pictures that ship with edgetfm: "
            "pictures like those the model will meet are better",
        )
    if modality == "audio":
        sounds = [(sound, samples.RATE) for sound in samples.sounds()]
        digest = hashlib.sha256()
        for sound, rate in sounds:
            digest.update(f"{rate} {len(sound)}".encode() + sound.tobytes())
        return Calibration(
            "generated sounds",
            sounds,
            digest.hexdigest(),
            f"calibrated and judged on {len(sounds)} generated sounds that ship with edgetfm: "
            "recordings like those the model will meet are better",
        )
    texts = samples.texts()
    return Calibration(
        "shipped texts",
        texts,
        _fingerprint(texts),
        f"calibrated and judged on the {len(texts)} English texts that ship with edgetfm: "
        "texts like those the model will meet are better",
    )


def _fingerprint(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def spread(items: Iterable[tuple[bytes, Item]], limit: int) -> list[Item]:
    """The `limit` different items with the smallest hashes, in the order they came.

    items: the bytes that tell an item from others, and the item.
    """
    kept: list[tuple[int, int, Item]] = []  # a heap with the largest hash on top
    hashes: set[int] = set()
    for place, (data, item) in enumerate(items):
        rank = int.from_bytes(hashlib.sha256(data).digest()[:8])
        if rank in hashes or (len(kept) == limit and rank > -kept[0][0]):
            continue
        hashes.add(rank)
        entry = (-rank, place, item)
        if len(kept) < limit:
            heapq.heappush(kept, entry)
        else:
            hashes.discard(-heapq.heapreplace(kept, entry)[0])
    return [item for _, _, item in sorted(kept, key=lambda entry: entry[1])]


def _folder(root: Path, modality: str, limit: int) -> Calibration:
    """Files of a folder and the folders in it, chosen by their names."""
    kind, suffixes = {"image": "pictures", "audio": "audio"}[modality], FILES[modality]
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; {kind} come from a folder of files")
    names = sorted(
        p.relative_to(root).as_posix()
        for p in root.rglob("*")
        if p.suffix.lower() in suffixes and p.is_file()
    )
    if not names:
        raise DataError(f"{root} holds no {kind} ({', '.join(suffixes)})")
    chosen = spread(((name.encode("utf-8", "surrogateescape"), name) for name in names), limit)
    digest = hashlib.sha256()
    for name in chosen:
        digest.update(f"{name} {sha256(root / name)}\n".encode("utf-8", "surrogateescape"))
    return Calibration(title(root), [root / name for name in chosen], digest.hexdigest())
