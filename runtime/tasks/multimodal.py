"""multimodal-classification: a label for what several senses tell, whichever of them are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgetfm.errors import InputError, listed
from edgetfm.runtime.tasks._texts import Asked, batches, check_top_k
from edgetfm.runtime.tasks.classification import Scored, likeliest
from edgetfm.tasks import TASKS

NAME = "multimodal-classification"

Senses = tuple[Any, ...]
"""What is given of each sense, in the task's order; None is missing."""


def sense_items(inputs: Any) -> tuple[list[Senses], bool]:
    """The items, and whether a single one was given: {"text", "image", "audio"}, any of them.

    Raises InputError for other keys, and for an item of nothing.
    """
    single = isinstance(inputs, Mapping)
    items = [inputs] if single else inputs
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        raise InputError(f"expected {_WANTED}, or a list of such, got {type(inputs).__name__}")
    problems = []
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            problems.append(f"item {number} is {type(item).__name__}, expected {_WANTED}")
        elif unknown := [str(key) for key in item if key not in _SENSES]:
            problems.append(f"item {number} has {', '.join(unknown)}, expected {_WANTED}")
        elif all(item.get(sense) is None for sense in _SENSES):
            problems.append(f"item {number} is empty: give at least one of {', '.join(_SENSES)}")
        elif not isinstance(item.get("text", ""), str | None):
            problems.append(f"item {number}: the text is {type(item['text']).__name__}")
    if problems:
        raise InputError(listed(problems))
    return [tuple(item.get(sense) for sense in _SENSES) for item in items], single


def classify_senses(
    asked: Asked,
    items: Sequence[Senses],
    *,
    top_k: int | None = 5,
    function_to_apply: str | None = None,
    batch_size: int = 1,
) -> list[list[Scored]]:
    """For each item its `top_k` labels as {"label", "score"}, the likeliest first; None is all."""
    check_top_k(top_k)
    return [
        likeliest(asked, logits, top_k, function_to_apply)
        for batch in batches(items, batch_size)
        for logits in asked.model.run(asked.preprocessor.inputs(_SENSES, batch))["logits"]
    ]


_SENSES = TASKS[NAME].senses
_WANTED = "a dict of text, image and audio, any of which may be left out"
