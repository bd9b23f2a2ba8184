"""Pictures run through a model in batches, and the sizes they had before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from edgetfm.runtime.images import opened
from edgetfm.runtime.tasks._texts import Asked, batches
from edgetfm.signature import Feeds

Size = tuple[int, int]


def run_pictures(
    asked: Asked, pictures: Sequence[Any], *, batch_size: int, beside: Feeds | None = None
) -> Iterator[tuple[Size, Feeds]]:
    """For each picture its (height, width) and its outputs, in order.

    Pictures of a batch that become different sizes are run apart: nothing is padded, so an answer
    does not depend on its neighbours. beside: inputs that all batches get too.
    """
    reader = asked.preprocessor.image_reader
    for batch in batches(pictures, batch_size):
        images = [(opened(picture), picture) for picture in batch]
        read = [(image, reader.read(image, picture)) for image, picture in images]
        for _, same in groupby(read, key=lambda pair: pair[1].shape):
            group = list(same)
            pixels = np.stack([row for _, row in group]).astype(reader.dtype)
            outputs = asked.model.run({**(beside or {}), reader.name: pixels})
            for row, (image, _) in enumerate(group):
                yield (image.height, image.width), {n: a[row] for n, a in outputs.items()}
