"""The folder that training leaves: weights, config, how inputs are made, metrics, samples."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import OutputError
from edgetfm.files import NewFile
from edgetfm.folders import NewFolder, finish_interrupted_swap
from edgetfm.training.data import MEAN, STD, Dataset, pixel_values

if TYPE_CHECKING:
    import torch

    from edgetfm.models._family import Family

SCHEMA = 1
SAMPLES = 256
"""The most validation images in sample.npz, for calibration; test images are never among them."""
EXAMPLES = 5


def check_output(output: Path, *, force: bool) -> None:
    """Raise an OutputError if a checkpoint cannot go to `output`.

    One of ours is replaced only with `force`, and any other folder that is not empty never.
    """
    try:
        finish_interrupted_swap(output)
        if output.is_symlink() or (output.exists() and not output.is_dir()):
            raise OutputError(f"{output} exists and is not a folder: it is left alone")
        if not output.exists() or not any(output.iterdir()):
            return
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
        raise OutputError(f"cannot write to {output!s}: {error}") from error
    if not _is_checkpoint(output):
        raise OutputError(
            f"{output} holds files but is not a checkpoint: it is left alone, choose another output"
        )
    if not force:
        raise OutputError(f"{output} exists: choose another output, or replace it with --force")


def _is_checkpoint(folder: Path) -> bool:
    try:
        return "edgetfm" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def write_checkpoint(
    output: Path,
    *,
    family: Family,
    task: str,
    config: Any,
    data: Dataset,
    weights: Mapping[str, torch.Tensor],
    metrics: Mapping[str, Any],
    force: bool,
) -> None:
    """Write the folder, whole or not at all."""
    from safetensors.torch import save

    check_output(output, force=force)
    head = {"family": family.name, "task": task, "schema": SCHEMA, "version": _version()}
    name = family.inputs(config, task)[0].name
    sample = io.BytesIO()
    arrays: dict[str, Any] = {
        name: pixel_values(data.validation.images[:SAMPLES]),
        "labels": data.validation.labels[:SAMPLES],
    }
    np.savez(sample, **arrays)
    contents: dict[str, bytes] = {
        "config.json": _json(
            {"edgetfm": head, "config": asdict(config), "labels": list(data.labels)}
        ),
        # Clones: safetensors refuses tensors that share memory, as tied weights do.
        "model.safetensors": save({n: w.detach().clone() for n, w in weights.items()}),
        "preprocessor_config.json": _json(_preprocessor(data)),
        "metrics.json": _json(metrics),
        "sample.npz": sample.getvalue(),
        **_examples(data),
    }
    with NewFolder(output) as folder:
        for relative, content in contents.items():
            with NewFile(folder.path / relative) as file:
                file.write(content)
        folder.commit(replace=force)


def _json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _version() -> str:
    try:
        return version("edgetfm")
    except PackageNotFoundError:  # a bare checkout
        return "unknown"


def _preprocessor(data: Dataset) -> dict[str, Any]:
    """In the keys that transformers' image processors know."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_grayscale": data.channels == 1,
        "do_convert_rgb": data.channels == 3,
        "do_resize": True,
        "size": {"height": data.height, "width": data.width},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * data.channels,
        "image_std": [STD] * data.channels,
    }


def _examples(data: Dataset) -> dict[str, bytes]:
    """A few test pictures to try the model on, named after their labels; none without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        return {}
    pictures = {}
    for i in range(min(EXAMPLES, len(data.test))):
        pixels = data.test.images[i]
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if data.channels == 1 else pixels).save(buffer, "PNG")
        label = "".join(c if c.isalnum() else "_" for c in data.labels[data.test.labels[i]])
        pictures[f"examples/{i}-label-{label}.png"] = buffer.getvalue()
    return pictures
