"""Pictures of several folders beneath each other, a row a folder, as the docs show them.

    python benchmarks/side_by_side.py FOLDER... -o PICTURE.jpg

The folders hold pictures of the same names, as `edgetfm run --pictures FOLDER` draws them; each
row is named after its folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

SIDE, MARGIN, NAME = 224, 4, 14
QUALITY = 75


def row(folder: Path, names: list[str]) -> Image.Image:
    """The pictures of a folder in a row, and its name above them."""
    made = Image.new("RGB", (len(names) * (SIDE + MARGIN), SIDE + NAME + MARGIN), "white")
    ImageDraw.Draw(made).text((0, 0), folder.name, fill="black")
    for place, name in enumerate(names):
        with Image.open(folder / name) as image:
            small = image.convert("RGB").resize((SIDE, SIDE * image.height // image.width))
            made.paste(small, (place * (SIDE + MARGIN), NAME))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    names = sorted(path.name for path in given.folders[0].glob("*-*.png"))
    kept = [n for n in names if n.endswith(("-boxes.png", "-overlay.png", "-attention.png"))]
    if not kept:
        parser.error(f"{given.folders[0]} holds no picture that edgetfm run drew")
    rows = [row(folder, kept) for folder in given.folders]
    made = Image.new("RGB", (rows[0].width, sum(r.height for r in rows)), "white")
    top = 0
    for one in rows:
        made.paste(one, (0, top))
        top += one.height
    made.save(given.output, quality=QUALITY)


if __name__ == "__main__":
    main()
