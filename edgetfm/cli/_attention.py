"""`--attention`: the page of what a bundle attends to, beside its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.errors import InputError, OutputError
from edgetfm.tasks import TASKS

if TYPE_CHECKING:
    from edgetfm.runtime import Pipeline


def draw_attention(pipe: Pipeline, items: Sequence[Any], file: Path) -> None:
    """Write the page for the one item that was given; InputError for several, or none to show."""
    from edgetfm.reporting.attention import attention_page
    from edgetfm.runtime.attention import attention_maps

    if len(items) != 1:
        raise InputError(f"--attention draws one INPUT, {len(items)} were given")
    senses = TASKS[pipe.task].on(pipe.model.signature, pipe.model.bundle.manifest.preprocessing)
    if len(senses.senses) != 1:
        raise InputError(f"--attention draws one text, picture or sound; {pipe.task} takes two")
    feeds = pipe.preprocessor.inputs(senses.senses, items)
    maps = attention_maps(pipe.model, feeds)
    labels = _labels(pipe, items[0], maps[0].weights.shape[-1])
    title = f"What {pipe.model.bundle.root.resolve().name} attends to"
    page = attention_page(title, labels, [(m.node, m.weights) for m in maps])
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror}") from error


def _labels(pipe: Pipeline, item: Any, count: int) -> list[str]:
    """What each place of a map is: a token, a patch of a picture, or its number."""
    if pipe.preprocessor.text is not None:
        (encoding,) = pipe.preprocessor.text.encode([item])
        single = isinstance(item, str)
        return [
            (item[start:end] if single else "") or token
            for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True)
        ]
    side = math.isqrt(count)
    if pipe.preprocessor.image is not None and count - side * side in (0, 1, 2):
        first = ["[class]", "[distilled]"][: count - side * side]
        return [*first, *(f"{i // side},{i % side} " for i in range(side * side))]
    return [f"{i} " for i in range(count)]
