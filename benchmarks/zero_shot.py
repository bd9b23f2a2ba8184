"""What a CLIP trained on benchmarks/fashion.py says of classes it knows, and of two it never saw.

    python benchmarks/zero_shot.py BUNDLE fashion --found found.png

Prompt classification over the eight classes of training, and over the two that were held out, each
class by all that is said of it, by every variant of the bundle. `--found` draws what is found for
a few texts.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion import LABELS, UNSEEN, texts_of
from PIL import Image, ImageDraw

import edgetfm

ASKED = ("something worn on the foot", "something with long sleeves", "something with a handle")
"""What is looked for, in the words of the texts and no class's own."""
SHOWN, SIDE = 8, 56
"""Pictures of a row, and their pixels along a side."""


def right(match: Any, folder: Path, labels: tuple[str, ...], most: int) -> tuple[int, int]:
    """How many test pictures of these classes get the text of their own, and of how many."""
    texts = [texts_of(label)[0] for label in labels]
    hits = count = 0
    for label, text in zip(labels, texts, strict=True):
        pictures = [str(path) for path in sorted((folder / label).glob("*.png"))[:most]]
        found = match(
            pictures, candidate_labels=texts, hypothesis_template="{}", top_k=1, batch_size=32
        )
        hits += sum(answer[0]["label"] == text for answer in found)
        count += len(pictures)
    return hits, count


def draw(matches: Mapping[str, Any], folder: Path, path: Path) -> None:
    """A row of the pictures that fit best for each text and variant, the best first."""
    rows = [(text, name) for text in ASKED for name in matches]
    sheet = Image.new("L", (SHOWN * SIDE, len(rows) * (SIDE + 16)), 255)
    pen = ImageDraw.Draw(sheet)
    for number, (text, name) in enumerate(rows):
        top = number * (SIDE + 16)
        pen.text((2, top + 2), f"{text}, {name}", fill=0)
        for place, found in enumerate(matches[name](text, among=folder, top_k=SHOWN)):
            with Image.open(found["image"]) as image:
                sheet.paste(image.resize((SIDE, SIDE)), (place * SIDE, top + 16))
    sheet.save(path)


def main() -> None:
    """Print the shares of each variant."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("fashion", type=Path)
    parser.add_argument("--most", type=int, default=1000, help="pictures of each class")
    parser.add_argument("--found", type=Path, help="a picture of what is found, to be written")
    given = parser.parse_args()
    variants = edgetfm.load(given.bundle).bundle.manifest.components["model"].variants
    matches = {name: edgetfm.pipeline(given.bundle, precision=name) for name in variants}
    seen = tuple(label for label in LABELS if label not in UNSEEN)
    for name, labels in (("seen", seen), ("unseen", UNSEEN)):
        for variant, match in matches.items():
            hits, count = right(match, given.fashion / name, labels, given.most)
            share = f"{hits / count:.2%} of {count} pictures"
            print(f"{name}, {variant}: {share} of {', '.join(labels)}")
    if given.found is not None:
        draw(matches, given.fashion, given.found)


if __name__ == "__main__":
    main()
