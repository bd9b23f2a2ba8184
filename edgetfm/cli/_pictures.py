"""Answers that are pictures themselves: written to a folder, and told in numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetfm.errors import InputError, OutputError

MATCHES = "zero-shot-image-classification"


def options_of(
    task: str, labels: str | None, among: Path | None = None, best: int | None = None
) -> dict[str, Any]:
    """What a pipeline is told of `--labels`, `--among` and `--best`.

    Raises InputError where one of them is missing or of no use.
    """
    given = {"--labels": labels, "--among": among, "--best": best}
    if task != MATCHES:
        if named := [flag for flag, value in given.items() if value is not None]:
            verb = "is" if len(named) == 1 else "are"
            raise InputError(
                f"{', '.join(named)} {verb} for {MATCHES}, and this bundle does {task}"
            )
        return {}
    if (labels is None) == (among is None):
        raise InputError(
            f'{MATCHES} needs --labels "one,two", what to choose from, or --among a folder of '
            "pictures or a .txt file, what to find"
        )
    names = [name.strip() for name in (labels or "").split(",") if name.strip()]
    found: dict[str, Any] = {"candidate_labels": names} if among is None else {"among": among}
    return {**found, "top_k": best}


def check_pictures(task: str, folder: Path | None) -> None:
    """An InputError if pictures are wanted of a task that makes none."""
    from edgetfm.tasks import TASKS

    drawn = [
        name
        for name, row in TASKS.items()
        if any(output.per == "pixel" or output.kind in ("map", "boxes") for output in row.outputs)
    ]
    if folder is not None and task not in drawn:
        known = f"{', '.join(drawn[:-1])} and {drawn[-1]}"
        raise InputError(f"--pictures is for {known}, and this bundle does {task}")


def draw(task: str, item: str, answer: Any, folder: Path | None) -> Path | None:
    """A copy of the picture in `folder` with what was found drawn on it; None where nothing is."""
    from edgetfm.reporting import drawing

    ways = {"object-detection": drawing.with_boxes, "image-segmentation": drawing.with_classes}
    if folder is None or task not in ways:
        return None
    return _write(
        ways[task](item, answer), folder / f"{_plain(Path(item).stem)}-{_DRAWN[task]}.png"
    )


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
            name = _plain(f"{Path(item).stem}-{answer.get('label', key)}")
            rest[key] = str(_write(_image(pixels), folder / f"{name}.png"))
    return rest


_DRAWN = {"object-detection": "boxes", "image-segmentation": "overlay"}
"""What the name of a drawn copy ends in."""


def _plain(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", name)


def _image(pixels: Any) -> Any:
    from PIL import Image  # the picture was read with it

    return Image.fromarray(pixels)


def _write(image: Any, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}") from error
    return path
