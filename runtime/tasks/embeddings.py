"""feature-extraction and image-feature-extraction: a vector for each input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.runtime.tasks._texts import Asked, batches, run_texts
from edgetfm.signature import Array, Feeds


def embed_texts(
    asked: Asked,
    texts: Sequence[Any],
    *,
    output: str = "sentence_embedding",
    batch_size: int = 1,
    max_length: int | None = None,
) -> Array | list[Array]:
    """Embeddings [texts, width]; with output="last_hidden_state" a list of [tokens, width]."""
    check_output(asked, output)
    rows: dict[int, Array] = {}
    for i, _, outputs in run_texts(asked, texts, batch_size=batch_size, max_length=max_length):
        rows[i] = outputs[output]
    return together(asked, [rows[i] for i in range(len(texts))], output)


def embed_images(
    asked: Asked, images: Sequence[Any], *, output: str = "image_embedding", batch_size: int = 1
) -> Array | list[Array]:
    """Embeddings [images, width]; with output="last_hidden_state" a list of [patches, width]."""
    check_output(asked, output)
    rows: list[Array] = []
    for batch in batches(images, batch_size):
        outputs: Feeds = asked.model.run(asked.preprocessor.images(batch))
        rows.extend(outputs[output])
    return together(asked, rows, output)


def check_output(asked: Asked, output: str) -> None:
    """Raise an InputError if the model gives no such output."""
    names = [o.name for o in asked.model.signature.outputs]
    if output not in names:
        raise InputError(f"no output '{output}'; the model gives {', '.join(names)}")


def together(asked: Asked, rows: list[Array], output: str) -> Array | list[Array]:
    """Vectors as one array [items, width]; what has a row a token stays a list."""
    spec = next(o for o in asked.model.signature.outputs if o.name == output)
    if len(spec.shape) != 2:
        return rows
    width = spec.shape[1]
    return np.stack(rows) if rows else np.zeros((0, width if isinstance(width, int) else 0))
