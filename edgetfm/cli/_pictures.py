"""Answers that are pictures themselves: written to a folder, and told in numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetfm.errors import InputError, OutputError


def options_of(task: str, labels: str | None) -> dict[str, Any]:
    """What a pipeline is told of `--labels`; an InputError where it is missing or of no use."""
    wants = task == "zero-shot-image-classification"
    if wants != (labels is not None):
        raise InputError(
            'zero-shot-image-classification needs --labels "one,two", what to choose from'
            if wants
            else f"--labels is for zero-shot-image-classification, and this bundle does {task}"
        )
    names = [name.strip() for name in (labels or "").split(",") if name.strip()]
    return {"candidate_labels": names} if wants else {}


def check_pictures(task: str, folder: Path | None) -> None:
    """An InputError if pictures are wanted of a task that makes none."""
    from edgetfm.tasks import TASKS

    drawn = [
        name
        for name, row in TASKS.items()
        if any(output.per == "pixel" or output.kind == "map" for output in row.outputs)
    ]
    if folder is not None and task not in drawn:
        raise InputError(f"--pictures is for {' and '.join(drawn)}, and this bundle does {task}")


def told(item: str, answer: Any, folder: Path | None) -> Any:
    """The answer with each picture in it (uint8 [height, width]) as a file in `folder`.

    Without a folder a mask is told as the share of the picture that it covers.
    """
    if isinstance(answer, list):
        return [told(item, part, folder) for part in answer]
    if not isinstance(answer, Mapping):
        return answer
    pictures = {
        key: value
        for key, value in answer.items()
        if getattr(value, "ndim", 0) == 2 and value.dtype == "uint8"
    }
    rest = {key: value for key, value in answer.items() if key not in pictures}
    for key, pixels in pictures.items():
        if key == "mask":
            rest.pop("score", None)
            rest["covers"] = float((pixels > 0).mean())
        if folder is not None:
            name = re.sub(r"[^\w-]+", "_", f"{Path(item).stem}-{answer.get('label', key)}")
            rest[key] = str(_write(pixels, folder / f"{name}.png"))
    return rest


def _write(pixels: Any, path: Path) -> Path:
    from PIL import Image  # the picture was read with it

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
    return path
