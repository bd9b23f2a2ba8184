"""other: a graph that does no known task answers with its outputs as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from edgetfm.runtime.tasks._texts import Asked, batches, run_texts, text_items
from edgetfm.signature import Feeds


def any_items(inputs: Any) -> tuple[list[Any], bool]:
    """Texts, pairs or pictures, and whether a single one was given."""
    if isinstance(inputs, (str, os.PathLike, tuple, Mapping)) or not isinstance(inputs, Sequence):
        return [inputs], True
    return list(inputs), False


def answer_with_outputs(
    asked: Asked, items: Sequence[Any], *, batch_size: int = 1, max_length: int | None = None
) -> list[Feeds]:
    """The outputs by name for each item, without the batch and without padding.

    max_length: of texts; pictures have none.
    """
    if asked.preprocessor.text is not None:
        texts, _ = text_items(list(items))
        done = run_texts(asked, texts, batch_size=batch_size, max_length=max_length)
        rows = {i: outputs for i, _, outputs in done}
        return [rows[i] for i in range(len(items))]
    answers: list[Feeds] = []
    for batch in batches(items, batch_size):
        outputs = asked.model.run(asked.preprocessor.images(batch))
        numbers = range(len(batch))
        answers += [{name: array[row] for name, array in outputs.items()} for row in numbers]
    return answers
