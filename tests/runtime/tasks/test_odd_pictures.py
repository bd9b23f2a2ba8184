"""Odd pictures are answered for and broken ones are named, whatever is asked of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm.errors import InputError
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.scoring.labelled import pipeline_of
from edgetfm.sources import eager, open_source
from edgetfm.tasks import TASKS
from tests.odd_pictures import BROKEN, SOUND, odd_pictures
from tests.untrained import WORDS, untrained

TILES = {"image_size": [16, 16], "patch_size": [8, 8]}
SIZES = {"width": 32, "layers": 1, "heads": 4, "inner": 32}
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "image-classification": (
        "vit",
        SIZES | {"image_size": [8, 8], "patch_size": [4, 4]},
        {"top_k": 10},
    ),
    "object-detection": (
        "detr",
        SIZES
        | {"image_size": [16, 16], "queries": 4, "stem": 4, "widths": [4], "depths": [1]}
        | {f"decoder_{name}": SIZES[name] for name in ("layers", "heads", "inner")},
        {},
    ),
    "image-segmentation": ("segmenter", SIZES | TILES | {"patch_size": 8, "detail": 4}, {}),
    "zero-shot-image-classification": (
        "clip",
        TILES
        | {"projection": 16}
        | {f"{of}_{name}": n for of in ("image", "text") for name, n in SIZES.items()},
        {"candidate_labels": ["one circle", "two squares"]},
    ),
}
"""A task -> a family, the sizes of one that has learned nothing, and what it is told."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("odd")
    odd_pictures(made)
    return made


@pytest.mark.parametrize("task", KINDS)
def test_odd_pictures_are_answered_for_and_broken_ones_named(
    task: str, folder: Path, tmp_path: Path
) -> None:
    name, model, told = KINDS[task]
    others = {"dataset": "digits"} if name == "vit" else WORDS if name == "clip" else {}
    made = untrained(name, task, tmp_path / "made", model, **others)
    opened = open_source(made)
    prepare = Preprocessor.from_folder(made, opened.preprocessing, opened.signature)
    ask = pipeline_of(TASKS[task], opened.labels, eager(opened.module()), prepare)
    answers = ask([folder / file for file in SOUND], batch_size=4, **told)
    assert len(answers) == len(SOUND)
    if task == "image-segmentation":
        shapes = {file: masks[0]["mask"].shape for file, masks in zip(SOUND, answers, strict=True)}
        assert (shapes["long.png"], shapes["one.png"]) == ((10, 10_000), (1, 1))
        assert shapes["turned.jpg"] == (30, 40), "upright"
    elif task != "object-detection":
        sums = [sum(label["score"] for label in answer) for answer in answers]
        np.testing.assert_allclose(sums, 1, atol=1e-3)
    for file, said in BROKEN.items():
        with pytest.raises(InputError, match=f"{file}.* {said}"):
            ask([folder / file], **told)
