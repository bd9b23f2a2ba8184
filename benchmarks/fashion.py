"""Fashion-MNIST as edgetfm trains on it: pictures with labels, and pictures with texts about them.

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb data
    python benchmarks/fashion.py data/usr/share/datasets/fashion-mnist fashion

Writes fashion.npz (images, labels), captions.npz (images, texts, kind, part: two whole classes are
in no part) and PNGs of test pictures: seen/LABEL/ of the eight classes, unseen/LABEL/ of the two;
with --judge all of judge/LABEL/, which the configuration vit-fashion tests on.

What is said of a picture follows from its class alone, in words for what can be seen: where it is
worn, how long its sleeves are, whether it is open. No text names a class. So the texts of the two
classes that are held out are made of words that others taught, in a combination that none had.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.training.config import load_config
from edgetfm.training.data.parts import Shares

LABELS = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
"""https://github.com/zalandoresearch/fashion-mnist, in the order of its numbers."""
UNSEEN = ("pullover", "sneaker")
"""The classes that no text and no picture of training is of."""
WHOLES = {
    "t-shirt": ("worn on the upper body", "with short sleeves", "ending at the waist"),
    "trouser": ("worn on the legs", "with two long legs", "ending at the ankles"),
    "pullover": ("worn on the upper body", "with long sleeves", "closed in front"),
    "dress": ("worn on the whole body", "closed in front", "ending at the knees"),
    "coat": ("worn on the upper body", "with long sleeves", "open in front"),
    "sandal": ("worn on the foot", "with straps", "low and open"),
    "shirt": ("worn on the upper body", "with long sleeves", "ending at the waist", "with buttons"),
    "sneaker": ("worn on the foot", "with a flat sole", "low and closed"),
    "bag": ("carried in the hand", "with a handle", "closed on top"),
    "ankle boot": ("worn on the foot", "with a flat sole", "high and closed"),
}
"""What can be seen of each class."""
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
SHARES = Shares(validation=0.03, test=0.0)
"""Of what is no test picture of the data set's own."""


def texts_of(label: str) -> list[str]:
    """All that is said of a class: the whole, then each choice of its parts."""
    parts = WHOLES[label]
    choices = [c for n in range(len(parts), 0, -1) for c in itertools.combinations(parts, n)]
    return [f"something {', '.join(choice)}" for choice in choices]


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array in the format of LeCun's files, gzipped: http://yann.lecun.com/exdb/mnist."""
    data = gzip.decompress(path.read_bytes())
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def read(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Pictures [70000, 28, 28], the number of each one's label, and which are for testing."""
    missing = [name for pair in FILES.values() for name in pair if not (folder / name).is_file()]
    if missing:
        sys.exit(f"{folder} lacks {', '.join(missing)}: see the first lines of this file")
    images, labels = (
        np.concatenate([read_idx(folder / FILES[part][i]) for part in FILES]) for i in (0, 1)
    )
    return images, labels.astype(np.int64), np.arange(len(images)) >= len(images) - 10_000


def described(
    images: NDArray[np.uint8], labels: NDArray[np.int64], test: NDArray[np.bool_], every: int
) -> dict[str, Any]:
    """The arrays of captions.npz: of pictures to train on each `every`th."""
    kept = ~np.isin(labels, [LABELS.index(name) for name in UNSEEN])
    kept &= test | (np.arange(len(images)) % every == 0)
    part = np.array(
        ["test" if t else SHARES.part_of(i.tobytes()) for i, t in zip(images, test, strict=True)]
    )
    # Equal pictures are in one part: what is for testing as well is not trained on.
    tested = {image.tobytes() for image in images[test]}
    part = np.where([image.tobytes() in tested for image in images], "test", part)
    said = [texts_of(name) for name in LABELS]
    longest = max(map(len, said))
    texts = np.array([row + [""] * (longest - len(row)) for row in said])
    return {"images": images[kept], "texts": texts, "kind": labels[kept], "part": part[kept]}


def main() -> None:
    """Write what the first lines of this file say."""
    from PIL import Image

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pngs", type=int, default=100, help="of each class")
    parser.add_argument("--judge", action="store_true", help="what vit-fashion tests on, too")
    parser.add_argument("--every", type=int, default=1, help="train on one in so many")
    given = parser.parse_args()
    images, labels, test = read(given.data)
    given.output.mkdir(parents=True, exist_ok=True)
    np.savez(given.output / "fashion.npz", images=images, labels=np.array(LABELS)[labels])
    np.savez(given.output / "captions.npz", **described(images, labels, test, given.every))
    for number, name in enumerate(LABELS):
        folder = given.output / ("unseen" if name in UNSEEN else "seen") / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(images[test & (labels == number)][: given.pngs]):
            Image.fromarray(image).save(folder / f"{i:04d}.png")
    if given.judge:
        shares = load_config("vit-fashion").shares
        for i, (image, number) in enumerate(zip(images, labels, strict=True)):
            if shares.part_of(image.tobytes()) == "test":
                folder = given.output / "judge" / LABELS[number]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{i:05d}.png")


if __name__ == "__main__":
    main()
