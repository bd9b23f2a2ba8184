"""Generated pictures: gradients, 1/f noise, shapes and strokes, the same at every call.

They have the smooth areas, edges and textures of photographs, which plain noise does not, and
belong to nobody.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
_Plane = NDArray[np.float64]

COUNT = 48
SIZES = ((224, 224), (240, 320), (320, 240), (256, 256))


def pictures(count: int = COUNT) -> list[Picture]:
    """`count` pictures [height, width, 3] in RGB, of several sizes and kinds in turn."""
    kinds = (_gradient, _clouds, _shapes, _strokes, _scene)
    made = []
    for number in range(count):
        rng = np.random.default_rng(number)
        height, width = SIZES[number % len(SIZES)]
        values = kinds[number % len(kinds)](rng, height, width)
        made.append((np.clip(values, 0, 1) * 255).round().astype(np.uint8))
    return made


def _axes(height: int, width: int) -> tuple[_Plane, _Plane]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return y / height, x / width


def _mix(rng: np.random.Generator, mask: _Plane) -> _Plane:
    """Two colours, mixed by a mask [height, width] from 0 to 1."""
    one, two = rng.uniform(0, 1, (2, 3))
    return np.asarray(one + (two - one) * mask[..., None])


def _gradient(rng: np.random.Generator, height: int, width: int) -> _Plane:
    y, x = _axes(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) + 0.5
    return _mix(rng, ramp) + rng.normal(0, 0.01, (height, width, 3))


def _noise(rng: np.random.Generator, height: int, width: int, power: float) -> _Plane:
    """Noise whose amplitude falls with frequency as in photographs, from 0 to 1."""
    spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    plane = np.fft.irfft2(spectrum / frequency**power, (height, width))
    return np.asarray((plane - plane.min()) / (np.ptp(plane) or 1.0))


def _clouds(rng: np.random.Generator, height: int, width: int) -> _Plane:
    shared = _mix(rng, _noise(rng, height, width, rng.uniform(0.9, 1.4)))
    tints = [_noise(rng, height, width, 1.2) for _ in range(3)]
    return 0.8 * shared + 0.2 * np.stack(tints, axis=-1)


def _shapes(rng: np.random.Generator, height: int, width: int) -> _Plane:
    y, x = _axes(height, width)
    canvas = _gradient(rng, height, width)
    for _ in range(int(rng.integers(4, 12))):
        cy, cx = rng.uniform(0, 1, 2)
        ry, rx = rng.uniform(0.04, 0.25, 2)
        dy, dx = (y - cy) / ry, (x - cx) / rx
        inside = dy**2 + dx**2 < 1 if rng.random() < 0.5 else np.maximum(abs(dy), abs(dx)) < 1
        shade = rng.uniform(0, 1, 3) * (1 - 0.3 * (dy[..., None] + dx[..., None]).clip(-1, 1))
        canvas = np.where(inside[..., None], shade, canvas)
    return canvas


def _strokes(rng: np.random.Generator, height: int, width: int) -> _Plane:
    """Lines of short strokes on a light page, as writing looks from afar."""
    page = np.full((height, width), rng.uniform(0.8, 1.0))
    ink, size = rng.uniform(0.0, 0.3), int(rng.integers(8, 20))
    for top in range(size, height - size, 2 * size):
        left = size
        while left < width - 2 * size:
            if rng.random() < 0.85:
                for _ in range(int(rng.integers(1, 4))):
                    y0, y1 = top + rng.integers(0, size, 2)
                    x0, x1 = left + rng.integers(0, size, 2)
                    steps = np.linspace(0, 1, 2 * size)
                    rows = (y0 + (y1 - y0) * steps).astype(int)
                    columns = (x0 + (x1 - x0) * steps).astype(int)
                    page[rows, columns] = ink
                    page[rows, columns + 1] = ink
            left += size
    tint = 1 - rng.uniform(0, 0.15, 3)
    return page[..., None] * tint + 0.1 * (_noise(rng, height, width, 1.0)[..., None] - 0.5)


def _scene(rng: np.random.Generator, height: int, width: int) -> _Plane:
    """Ground, sky and things in between: a bit of everything above."""
    y, _ = _axes(height, width)
    horizon = rng.uniform(0.3, 0.7) + 0.1 * (_noise(rng, height, width, 1.6)[:1] - 0.5)
    sky, ground = _clouds(rng, height, width), _clouds(rng, height, width)
    view = np.where((y < horizon)[..., None], 0.5 + 0.5 * sky, 0.7 * ground)
    things = _shapes(rng, height, width)
    return np.where(_noise(rng, height, width, 1.5)[..., None] > 0.62, things, view)
