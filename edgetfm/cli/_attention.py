"""`--attention`: a page or a picture of what a bundle attends to, beside its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import InputError, OutputError
from edgetfm.tasks import TASKS

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgetfm.runtime import Pipeline
    from edgetfm.runtime.attention import AttentionMap
    from edgetfm.signature import Feeds


def draw_attention(pipe: Pipeline, items: Sequence[Any], file: Path) -> None:
    """Write what is attended to in the one item that was given, InputError for several or none.

    As a page with all weights or, of a picture to a .png file, as a tint on what the model saw.
    """
    from edgetfm.runtime.attention import attention_maps

    if len(items) != 1:
        raise InputError(f"--attention draws one INPUT, {len(items)} were given")
    senses = TASKS[pipe.task].on(pipe.model.signature, pipe.model.bundle.manifest.preprocessing)
    if len(senses.senses) != 1:
        raise InputError(f"--attention draws one text, picture or sound; {pipe.task} takes two")
    feeds = pipe.preprocessor.inputs(senses.senses, items)
    if not all(array.size for array in feeds.values()):
        raise InputError("--attention needs a text of one token at least: this one has none")
    maps = attention_maps(pipe.model, feeds)
    try:
        if file.suffix.lower() == ".png":
            _heat(pipe, feeds, maps).save(file)
        else:
            file.write_text(_page(pipe, items[0], feeds, maps), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror}") from error


def _page(pipe: Pipeline, item: Any, feeds: Feeds, maps: Sequence[AttentionMap]) -> str:
    from edgetfm.reporting.attention import attention_page
    from edgetfm.runtime.attention import places_of

    labels = _labels(pipe, item, feeds, places_of(maps))
    title = f"What {pipe.model.bundle.root.resolve().name} attends to"
    return attention_page(title, labels, [(m.node, m.weights) for m in maps])


def _heat(pipe: Pipeline, feeds: Feeds, maps: Sequence[AttentionMap]) -> Image:
    """The picture as the model saw it, tinted by how much each patch counts in the first token."""
    from edgetfm.reporting.drawing import with_heat
    from edgetfm.runtime.attention import rollout

    whole = rollout(maps)
    grid = _grid(pipe, feeds, len(whole))
    if grid is None or grid.first == 0:
        raise InputError(
            "--attention FILE.png is for a picture that is read as square patches behind a token "
            "of its own, as by a ViT: give a .html file"
        )
    reader = pipe.preprocessor.image_reader
    weights = whole[grid.first :].reshape(grid.rows, grid.columns)
    return with_heat(reader.shown(feeds[reader.name][0]), weights)


@dataclass(frozen=True)
class _Grid:
    """The patches of a picture behind `first` tokens that are none."""

    first: int
    rows: int
    columns: int


def _grid(pipe: Pipeline, feeds: Feeds, count: int) -> _Grid | None:
    """How `count` places are laid over the picture; None where square patches make no such count.

    The sides tell: patches of one size cover the whole of it, behind two tokens at most.
    """
    if pipe.preprocessor.image is None:
        return None
    height, width = feeds[pipe.preprocessor.image_reader.name].shape[-2:]
    for side in range(1, min(height, width) + 1):
        rows, columns = height // side, width // side
        if height % side == width % side == 0 and count - rows * columns in (0, 1, 2):
            return _Grid(count - rows * columns, rows, columns)
    return None


def _labels(pipe: Pipeline, item: Any, feeds: Feeds, count: int) -> list[str]:
    """What each place of a map is: a token, a patch of a picture, or its number."""
    if pipe.preprocessor.text is not None:
        (encoding,) = pipe.preprocessor.text.encode([item])
        single = isinstance(item, str)
        return [
            (item[start:end] if single else "") or token
            for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True)
        ]
    if (grid := _grid(pipe, feeds, count)) is not None:
        first = ["[class]", "[distilled]"][: grid.first]
        patches = np.ndindex(grid.rows, grid.columns)
        return [*first, *(f"{row},{column} " for row, column in patches)]
    return [f"{i} " for i in range(count)]
