"""What each variant of a captioner's bundle writes under the same pictures, as one picture.

python benchmarks/told.py BUNDLE PICTURE... -o told.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

import edgetfm
from edgetfm.bundle import open_bundle

SIDE, LINE, ACROSS = 320, 14, 4
COLOURS = 128


def main() -> None:
    """Write the sheet, a line for each variant below each picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    paths = [str(path) for path in given.pictures]
    told = {}
    for name in next(iter(open_bundle(given.bundle).manifest.components.values())).variants:
        write = edgetfm.pipeline(given.bundle, precision=name)
        told[name] = [answer["generated_text"] for answer in write(paths)]
    height = SIDE + LINE * len(told) + 6
    rows = -(-len(paths) // ACROSS)
    sheet = Image.new("RGB", (ACROSS * (SIDE + 6), rows * height), "white")
    pen = ImageDraw.Draw(sheet)
    for number, path in enumerate(paths):
        left, top = number % ACROSS * (SIDE + 6), number // ACROSS * height
        with Image.open(path) as image:
            sheet.paste(
                image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, top)
            )
        for line, (name, texts) in enumerate(told.items()):
            place = (left, top + SIDE + line * LINE)
            pen.text(place, f"{name}: {texts[number]}", fill="black")
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(given.output, optimize=True)


if __name__ == "__main__":
    main()
