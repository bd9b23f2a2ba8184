"""Pictures of every kind that a camera, a program or an accident makes, as files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SOUND = (
    *("one.png", "long.png", "tall.png", "grey.png", "bits.png", "palette.png", "clear.png"),
    *("alpha.png", "cmyk.jpg", "lab.tif", "deep.png", "turned.jpg"),
)
"""Odd, but pictures: each is to be answered for."""
BROKEN = {
    "cut.png": "truncated",
    "cut.jpg": "truncated",
    "head.png": "cannot identify",
    "empty.png": "cannot identify",
    "text.png": "cannot identify",
    "bomb.png": "decompression bomb",
    "fraction.tif": "floating-point",
    "whole.tif": "outside 16 bits",
}
"""What no picture can be made of -> what is said of it."""


def odd_pictures(folder: Path) -> None:
    """Write all of SOUND and BROKEN."""
    random = np.random.default_rng(0)
    noise = random.random((40, 30, 3))
    photo = Image.fromarray((noise * 255).astype(np.uint8))
    Image.new("RGB", (1, 1), (200, 10, 10)).save(folder / "one.png")
    photo.resize((10_000, 10)).save(folder / "long.png", compress_level=1)
    photo.resize((10, 10_000)).save(folder / "tall.png", compress_level=1)
    photo.convert("P").save(folder / "clear.png", transparency=0)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held on its side
    photo.save(folder / "turned.jpg", exif=turned)
    for name, mode in {
        "grey.png": "L", "bits.png": "1", "palette.png": "P", "alpha.png": "RGBA",
        "cmyk.jpg": "CMYK", "lab.tif": "LAB",
    }.items():  # fmt: skip
        photo.convert(mode).save(folder / name)
    Image.fromarray((noise[..., 0] * 65535).astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(noise[..., 0].astype(np.float32)).save(folder / "fraction.tif")
    Image.fromarray((noise[..., 0] * 2**20).astype(np.int32)).save(folder / "whole.tif")
    for name in ("cut.png", "cut.jpg"):
        photo.save(folder / name)
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
    (folder / "head.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not a picture\n")
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [_chunk(b"IHDR", size), _chunk(b"IDAT", zlib.compress(b"")), _chunk(b"IEND", b"")]
    (folder / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
